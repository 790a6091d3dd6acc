"""Whether weights are those that a config describes: transformers draws by lot what is missing. No torch."""

from collections.abc import Mapping

from ..errors import WidthPruneError


def check_described(model, stored: Mapping[str, tuple[int, ...]], owner: str) -> None:
    """Refuse tensors that are not those of a model.

    Parameters
    ----------
    model : PreTrainedModel
        Built from the config; needs no storage.
    stored : mapping
        Name of each stored tensor to its shape.
    owner : str
        Whose tensors these are, for the message.

    Raises
    ------
    WidthPruneError
        If one is missing or of another shape. Not where the checkpoint has names of its own, which
        transformers converts and `load_model` looks at.
    """
    copies: dict[int, list[str]] = {}  # a tied weight has several names, of which one is stored
    shapes = {}
    for tensor, parameter in model.named_parameters(remove_duplicate=False):
        copies.setdefault(id(parameter), []).append(tensor)
        shapes[tensor] = tuple(parameter.shape)
    if not stored.keys() <= shapes.keys() | {buffer for buffer, _ in model.named_buffers()}:
        return
    if wrong := [tensor for tensor, shape in shapes.items() if tuple(stored.get(tensor, shape)) != shape]:
        raise WidthPruneError(
            f"{owner}: config.json asks for {wrong[0]} of shape {list(shapes[wrong[0]])}, and the weights hold "
            f"{list(stored[wrong[0]])}: copy the config and the weights of one model"
        )
    if absent := [names[0] for names in copies.values() if not stored.keys() & set(names)]:
        raise WidthPruneError(
            f"{owner}: config.json asks for {absent[0]}, which the weights do not hold: copy the whole model again"
        )
