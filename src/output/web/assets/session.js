// @ts-check
// Who is signed in, what they may do, and the form to sign in. A page that uses it has an element with the id
// `session`; what is needed is made here.

import { make, say } from "./elements.js";
import { ask } from "./service.js";
import { t } from "./texts.js";

/**
 * @typedef {"view" | "operate" | "engineer"} Role
 *
 * What the service knows of whoever looks at the page.
 * @typedef {object} You
 * @property {"account" | "token" | "local" | "refused"} changes How changes are allowed here.
 * @property {string | null} name The account that is signed in.
 * @property {Role | null} role What it may do.
 */

/** @type {Role[]} */
const ROLES = ["view", "operate", "engineer"];

/**
 * Why somebody may not do what needs a role. Empty if they may, or if a token is asked for on a click.
 * @param {You} you
 * @param {Role} needed
 */
export function whyNot(you, needed) {
  if (you.changes === "token") return "";
  if (you.changes === "refused")
    return t("Read-only page: set web.token_file or web.accounts_file to allow changes.");
  if (you.role === null) return t("Sign in: this needs the role {0}.", t(needed));
  if (ROLES.indexOf(you.role) >= ROLES.indexOf(needed)) return "";
  if (!you.name) return t("This needs the role {0}, not {1}.", t(needed), t(you.role));
  return t("{0} may not: this needs the role {1}, not {2}.", you.name, t(needed), t(you.role));
}

/** @type {HTMLDialogElement | null} */
let dialog = null;
/** @type {() => void} */
let changed = () => {};
let shown = "";

/**
 * Shows who is signed in, and a button to sign in or out.
 * @param {You} you
 * @param {() => void} onChange Called after somebody signed in or out.
 */
export function showSession(you, onChange) {
  changed = onChange;
  const place = document.getElementById("session");
  const key = JSON.stringify(you);
  if (!place || shown === key) return;
  shown = key;
  const link = make("a", t("changes"));
  link.href = "/audit";
  const mayRead = you.changes === "token" || you.role === "engineer";
  const parts = mayRead && location.pathname !== link.pathname ? [link] : [];
  if (you.changes !== "account") return place.replaceChildren(...parts);
  const button = make("button", you.role ? t("Sign out") : t("Sign in"));
  button.type = "button";
  button.addEventListener("click", you.role ? signOut : openForm);
  const name = make("span", you.role ? `${you.name ?? ""} (${t(you.role)})` : t("not signed in"));
  place.replaceChildren(...parts, name, button);
}

/** Who looks at the page, for pages that do not read the status. */
export async function readYou() {
  const response = await ask("/api/session");
  if (!response.ok) throw new Error("/api/session");
  return /** @type {Promise<You>} */ (response.json());
}

/** Opens the form, once. */
export function openForm() {
  dialog ??= makeForm();
  if (!dialog.open) dialog.showModal();
}

async function signOut() {
  await ask("/api/session", { method: "DELETE", headers: { "X-Weakrest": "1" } }).catch(() => null);
  changed();
}

/** @param {string} label @param {string} type @param {AutoFill} autocomplete */
function field(label, type, autocomplete) {
  const [row, input] = [make("label", label), make("input")];
  input.type = type;
  input.autocomplete = autocomplete;
  input.required = true;
  row.append(input);
  return { row, input };
}

function makeForm() {
  const [form, box, why, buttons] = [make("form"), make("dialog"), make("p"), make("div", undefined, "buttons")];
  const name = field(t("Name"), "text", "username");
  const password = field(t("Password"), "password", "current-password");
  const [cancel, submit] = [make("button", t("Cancel")), make("button", t("Sign in"))];
  cancel.type = "button";
  cancel.addEventListener("click", () => box.close());
  submit.type = "submit";
  buttons.append(cancel, submit);
  why.setAttribute("role", "alert");
  form.append(name.row, password.row, why, buttons);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    submit.disabled = true;
    say(why, "");
    try {
      const body = JSON.stringify({ name: name.input.value.trim(), password: password.input.value });
      const headers = { "Content-Type": "application/json" };
      // Wrong passwords before this one make it wait.
      const signal = AbortSignal.timeout(20000);
      const response = await ask("/api/session", { method: "POST", headers, body, signal });
      if (response.ok) {
        box.close();
        form.reset();
        changed();
      } else {
        say(why, (await response.json()).error);
      }
    } catch {
      say(why, t("The service does not answer."));
    }
    submit.disabled = false;
  });
  box.setAttribute("aria-label", t("Sign in"));
  box.className = "sign-in";
  box.append(form);
  document.body.append(box);
  return box;
}
