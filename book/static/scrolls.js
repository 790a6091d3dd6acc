// What scrolls can be scrolled by keyboard.
const reachable = () => {
  for (const part of document.querySelectorAll("article table, article figure, article .output, article pre, article .scrolls")) {
    if (part.scrollWidth > part.clientWidth && getComputedStyle(part).overflowX !== "visible") part.tabIndex = 0;
  }
};
addEventListener("load", reachable);
addEventListener("resize", reachable);
