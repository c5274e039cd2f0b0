// The dialog that asks for the console's token.

import { byId, say } from "./dom.js";
import { hasToken, useToken } from "./service.js";

const dialog = byId("token-dialog");
const input = byId("token");

let settle = () => {};

/** Asks for the token; true once one is given, false where the dialog is left. */
export function askToken(why) {
  if (dialog.open) return Promise.resolve(false);
  settle(false); // whoever asked before and is told late that the dialog was left
  say(byId("token-why"), why);
  input.value = "";
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => (settle = resolve));
}

// The event comes some time after the dialog is closed: it may be open again by then.
dialog.addEventListener("close", () => {
  if (!dialog.open) settle(dialog.returnValue === "given");
});

function showState() {
  say(byId("token-button"), hasToken() ? "Forget token" : "Token");
}

export function forgetToken() {
  useToken("");
  showState();
}

byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useToken(input.value.trim());
  input.value = "";
  showState();
  dialog.close("given");
});
byId("token-cancel").addEventListener("click", () => dialog.close(""));

/** `onChange()`: a token was given or forgotten by the button. */
export function watchTokenButton(onChange) {
  byId("token-button").addEventListener("click", async () => {
    if (hasToken()) {
      forgetToken();
      onChange();
    } else if (await askToken("Reading needs a token where the console is not on this machine; changing always does.")) onChange();
  });
}
