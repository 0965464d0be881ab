// The page is complete without this; with it, the list can be filtered.
const filters = document.querySelector(".filters");
if (filters) {
  filters.hidden = false;
  filters.addEventListener("click", (event) => {
    const chosen = event.target.closest("button");
    if (!chosen) return;
    for (const button of filters.children) button.setAttribute("aria-pressed", button === chosen);
    document.querySelector(".cards").dataset.show = chosen.value;
  });
}
