// @ts-check
// What the pages of the service and of the labeler share.
// Data enters a page as text and attributes only, never as markup: names and reasons may hold anything.

/**
 * The first element within another that matches a selector.
 * @param {ParentNode} within
 * @param {string} selector
 */
export const inner = (within, selector) => /** @type {HTMLElement} */ (within.querySelector(selector));

/**
 * @template {keyof HTMLElementTagNameMap} Name
 * @param {Name} tag
 * @param {string} [text]
 * @param {string} [className]
 */
export const make = (tag, text, className) => {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  return element;
};

/**
 * Sets a text if it differs: a change is announced by screen readers and clears the selection.
 * @param {Element} element
 * @param {string} text
 */
export const say = (element, text) => {
  if (element.textContent !== text) element.textContent = text;
};
