// Signing in and out.

import { api } from "./api.js";
import { byId } from "./dom.js";

/** Prepare the form. `onUser` is called with the user's name when the user has signed in. */
export async function setUpSession(onUser) {
  byId("sign-in-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const token = byId("token").value.trim();
    if (await signIn(token, onUser)) byId("token").value = "";
    else byId("token").select();
  });
  byId("sign-out").addEventListener("click", async () => {
    await api("DELETE", "api/session").catch(() => {});
    location.reload();
  });
  addEventListener("signed-out", () => byId("page").hidden || showForm());

  // The demo opens the page with its token behind the #, which no server sees.
  const token = /^#token=(.+)$/.exec(location.hash)?.[1];
  if (token) {
    history.replaceState(null, "", location.pathname);
    if (await signIn(decodeURIComponent(token), onUser)) return;
  }
  try {
    enter((await api("GET", "api/session")).user, onUser);
  } catch {
    showForm();
  }
}

async function signIn(token, onUser) {
  const error = byId("token-error");
  try {
    if (!token) throw new Error("Enter your token.");
    enter((await api("POST", "api/session", { token })).user, onUser);
    error.textContent = "";
    return true;
  } catch ({ message }) {
    error.textContent = message;
    showForm();
    return false;
  }
}

function enter(user, onUser) {
  byId("sign-in").hidden = true;
  byId("bar").hidden = false;
  byId("page").hidden = false;
  byId("user").textContent = user;
  byId("avatar").textContent = user[0];
  onUser(user);
}

function showForm() {
  byId("bar").hidden = true;
  byId("page").hidden = true;
  byId("sign-in").hidden = false;
  byId("token").focus();
}
