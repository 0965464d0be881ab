// @ts-check
// Small helpers for the page's elements.

/**
 * The elements of `index.html` by their id.
 * @typedef {object} Elements
 * @property {HTMLButtonElement} accept
 * @property {HTMLElement} bar
 * @property {HTMLInputElement} brush
 * @property {HTMLElement} brushfield
 * @property {HTMLElement} brushsize
 * @property {HTMLCanvasElement} canvas
 * @property {HTMLButtonElement} clear
 * @property {HTMLDialogElement} conflict
 * @property {HTMLElement} conflicttitle
 * @property {HTMLElement} count
 * @property {HTMLButtonElement} defective
 * @property {HTMLElement} empty
 * @property {HTMLDialogElement} files
 * @property {HTMLInputElement} brightness
 * @property {HTMLInputElement} contrast
 * @property {HTMLElement} filesanswer
 * @property {HTMLButtonElement} filesopen
 * @property {HTMLButtonElement} fit
 * @property {HTMLButtonElement} good
 * @property {HTMLDialogElement} help
 * @property {HTMLButtonElement} helpopen
 * @property {HTMLElement} hint
 * @property {HTMLButtonElement} import
 * @property {HTMLInputElement} importfile
 * @property {HTMLButtonElement} in
 * @property {HTMLButtonElement} jump
 * @property {HTMLElement} keys
 * @property {HTMLElement} list
 * @property {HTMLButtonElement} listopen
 * @property {HTMLButtonElement} mine
 * @property {HTMLCanvasElement} minecanvas
 * @property {HTMLElement} name
 * @property {HTMLButtonElement} next
 * @property {HTMLElement} noclicks
 * @property {HTMLElement} notices
 * @property {HTMLElement} offer
 * @property {HTMLInputElement} opacity
 * @property {HTMLButtonElement} out
 * @property {HTMLInputElement} overwrite
 * @property {HTMLElement} polarity
 * @property {HTMLElement} preparing
 * @property {HTMLButtonElement} previous
 * @property {HTMLElement} product
 * @property {HTMLInputElement} prompt
 * @property {HTMLElement} promptfield
 * @property {HTMLElement} prompts
 * @property {HTMLButtonElement} redo
 * @property {HTMLElement} rest
 * @property {HTMLButtonElement} save
 * @property {HTMLElement} saved
 * @property {HTMLElement} score
 * @property {HTMLInputElement} search
 * @property {HTMLInputElement} showmap
 * @property {HTMLInputElement} showmask
 * @property {HTMLInputElement} shownearest
 * @property {HTMLElement} side
 * @property {HTMLInputElement} skipbad
 * @property {HTMLButtonElement} theirs
 * @property {HTMLCanvasElement} theirscanvas
 * @property {HTMLInputElement} token
 * @property {HTMLButtonElement} tokengiven
 * @property {HTMLDialogElement} tokens
 * @property {HTMLElement} tokenwhy
 * @property {HTMLDialogElement} training
 * @property {HTMLProgressElement} trainingbar
 * @property {HTMLElement} trainingend
 * @property {HTMLElement} trainingnumbers
 * @property {HTMLElement} trainingprogress
 * @property {HTMLElement} trainingresult
 * @property {HTMLElement} trainingstep
 * @property {HTMLElement} trainingtrouble
 * @property {HTMLButtonElement} trainopen
 * @property {HTMLButtonElement} trainstart
 * @property {HTMLButtonElement} trainstop
 * @property {HTMLInputElement} type
 * @property {HTMLElement} types
 * @property {HTMLSelectElement} which
 * @property {HTMLButtonElement} undo
 * @property {HTMLInputElement} unmarkedgood
 * @property {HTMLElement} working
 */

/**
 * @template {keyof Elements} Id
 * @param {Id} id
 */
export const $ = (id) => /** @type {Elements[Id]} */ (document.getElementById(id));

/**
 * All buttons that choose a tool.
 * @returns {NodeListOf<HTMLButtonElement>}
 */
export const toolButtons = () => document.querySelectorAll("button[data-tool]");

/** @type {(element: Element, on: boolean) => void} */
export const press = (element, on) => element.setAttribute("aria-pressed", String(on));
