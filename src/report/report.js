// @ts-check
// The report is complete without this script. With it, the pictures can be filtered.
const filters = document.querySelector(".filters");
if (filters instanceof HTMLElement) {
  filters.hidden = false;
  filters.addEventListener("click", (event) => {
    const chosen = event.target;
    const cards = document.querySelector(".cards[data-show]");
    if (!(chosen instanceof HTMLButtonElement) || !(cards instanceof HTMLElement)) return;
    for (const button of filters.children) button.setAttribute("aria-pressed", String(button === chosen));
    cards.dataset.show = chosen.value;
  });
}
