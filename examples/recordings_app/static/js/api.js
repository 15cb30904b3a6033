// Requests to the app's own server.

export class ApiError extends Error {
  /** `status` is 0 when no response came: the network failed. */
  constructor(message, status, body) {
    super(message);
    this.status = status;
    this.body = body;
  }

  get temporary() {
    return this.status === 0 || this.status === 429 || this.status >= 502;
  }
}

/** The path of one recording. */
export function pathOf({ call, name }) {
  return `api/recordings/${encodeURIComponent(call)}/${encodeURIComponent(name)}`;
}

/** Send a request, return its JSON. Throws an ApiError whose message can be shown. */
export async function api(method, path, body) {
  const options = { method };
  if (body !== undefined) {
    options.headers = { "content-type": "application/json" };
    options.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new ApiError("The server cannot be reached. Check your connection.", 0);
  }
  const content = response.status === 204 ? null : await response.json().catch(() => null);
  if (response.ok) return content;
  if (response.status === 401) dispatchEvent(new Event("signed-out"));
  throw new ApiError(messageOf(response, content), response.status, content);
}

function messageOf(response, content) {
  const text = content?.message ?? content?.detail;
  if (typeof text === "string") return text;
  return response.status >= 500 ? "The server has a problem. Try again later." : "The server refused this.";
}
