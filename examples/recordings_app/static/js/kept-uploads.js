// Remembers the running uploads of this tab, so that a reload of the page does not lose them.
//
// The browser forgets the file itself: the user chooses it again, and the parts that the bucket holds
// are not sent again.

import { byId } from "./dom.js";

const KEY = "uploads";

/** What is kept of the signed-in user: the call, name, size and time of the file, and the ticket. */
export function keptUploads() {
  return all().filter(({ user }) => user === byId("user").textContent);
}

/** The upload of this file that was running when the page was reloaded. */
export function keptUploadOf({ name, size, lastModified }) {
  return keptUploads().find((kept) => kept.filename === name && kept.size === size && kept.lastModified === lastModified);
}

export function keepUpload(call, file, ticket) {
  const { name, size, lastModified } = file;
  write([...all(), { user: byId("user").textContent, call, filename: name, size, lastModified, ticket }]);
}

export function forgetUpload({ ticket }) {
  write(all().filter((kept) => kept.ticket.ticket !== ticket));
}

function all() {
  return JSON.parse(sessionStorage.getItem(KEY) ?? "[]");
}

function write(kept) {
  sessionStorage.setItem(KEY, JSON.stringify(kept));
}
