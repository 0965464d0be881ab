// @ts-check
// Labels for other tools, and from them.

import { saver } from "./desk.js";
import { say } from "./elements.js";
import { $ } from "./page.js";
import { asProblem, ask } from "./server.js";
import { count, t } from "./texts.js";

/** @typedef {{ pictures: number, notes: string[] }} Summary What was left out is in the notes. */

/** Called when labels were imported. */
export const hooks = { imported: () => {} };

export function showFiles() {
  say($("filesanswer"), "");
  $("files").showModal();
}

/** @param {string} text @param {string[]} [notes] */
const tell = (text, notes = []) => say($("filesanswer"), [text, ...notes].join("\n"));

/**
 * Saves the labels as a file of another tool.
 * @param {string} format
 */
export async function exportTo(format) {
  if (saver.unsaved) return tell(t("Wait until everything is saved."));
  try {
    /** @type {Summary & { text: string }} */
    const { text, pictures, notes } = await (await ask(`/api/export/${format}`)).json();
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    link.download = `labels-${format}.json`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    tell(count(pictures, "{0} picture written.", "{0} pictures written."), notes);
  } catch (error) {
    tell(asProblem(error).message);
  }
}

export async function importFile() {
  const file = $("importfile").files?.[0];
  if (!file) return tell(t("Choose a file first."));
  if (saver.unsaved) return tell(t("Wait until everything is saved."));
  $("import").disabled = true;
  try {
    const how = new URLSearchParams({
      overwrite: String($("overwrite").checked),
      skip_bad: String($("skipbad").checked),
      unmarked_good: String($("unmarkedgood").checked),
    });
    /** @type {Summary} */
    const { pictures, notes } = await (await ask(`/api/import?${how}`, { method: "POST", body: file })).json();
    tell(count(pictures, "{0} picture read.", "{0} pictures read."), notes);
    hooks.imported();
  } catch (error) {
    tell(asProblem(error).message);
  }
  $("import").disabled = false;
}
