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

// What scrolls can be scrolled by keyboard.
const reachable = () => {
  for (const part of document.querySelectorAll("article table, article .output, article pre, article .scrolls")) {
    if (part.scrollWidth > part.clientWidth && getComputedStyle(part).overflowX !== "visible") part.tabIndex = 0;
  }
};
addEventListener("load", reachable);
addEventListener("resize", reachable);
