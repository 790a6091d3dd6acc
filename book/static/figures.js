// Under every figure a link to it as a file: it is an SVG beside the pages.
document.addEventListener("DOMContentLoaded", () => {
  for (const image of document.querySelectorAll('.cell_output img[src$=".svg"]')) {
    const link = document.createElement("a");
    link.href = image.getAttribute("src");
    link.download = "";
    link.className = "figure-link";
    link.textContent = "Figure as SVG";
    (image.closest("a") ?? image).after(link);
  }
});
