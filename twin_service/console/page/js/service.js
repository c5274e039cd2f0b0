// Calls to the twin service: the stream of snapshots with reconnection, what-if, weights, thumbnails.

const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 5000;
/** The service sends twice a second; silence for so long is a dead connection, whatever the socket says. */
const SILENCE_MS = 6000;

let token = "";

/** Kept in memory only: it is gone with the page. */
export function useToken(text) {
  token = text;
}

export function hasToken() {
  return token !== "";
}

/** A refusal by the service, with its status, its code and its own text. */
export class Refused extends Error {
  constructor(status, { code, text }) {
    super(text);
    this.status = status;
    this.code = code;
  }

  get isAboutToken() {
    return this.code === "token-missing" || this.code === "token-wrong";
  }
}

async function call(path, options = {}) {
  const headers = { ...options.headers };
  if (token) headers.Authorization = `Bearer ${token}`;
  const answer = await fetch(path, { ...options, headers, cache: "no-store" });
  if (!answer.ok) throw await refusalOf(answer);
  return answer;
}

async function refusalOf(answer) {
  const text = await answer.text();
  try {
    const { code, text: reason } = JSON.parse(text).error;
    return new Refused(answer.status, { code: String(code), text: String(reason) });
  } catch {
    return new Refused(answer.status, { code: "unknown", text: text || `status ${answer.status}` });
  }
}

function devicePath(id, rest) {
  return `api/devices/${encodeURIComponent(id)}/${rest}`;
}

/** The plan that stood if weights or link were so; the running device is not touched. */
export async function whatIf(id, wish, signal) {
  return (await call(`${devicePath(id, "what-if")}?${new URLSearchParams(wish)}`, { signal })).json();
}

/** Asks the twin service to plan with these weights from now on: `{ version, alpha_s, beta_s_per_joule }`. Needs the token. */
export async function applyWeights(id, weights) {
  const answer = await call(devicePath(id, "weights"), {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(weights),
  });
  return answer.json();
}

/** The newest tasks of one device; those of a snapshot are the newest of all, among which it may have none. */
export async function tasksOf(id) {
  return (await (await call(`api/snapshot?${new URLSearchParams({ device: id })}`)).json()).tasks;
}

/** A thumbnail as a bitmap. Fetched, not linked: an <img> could not bring the token along. */
export async function thumbnail(path) {
  const answer = await call(path.replace(/^\//, ""));
  return createImageBitmap(await answer.blob());
}

/**
 * Follows `api/events` and tells `onEvent[name](data)`, for those events that have a function there, and `onLink(link)`,
 * where link is `{ state: "connecting" | "live" | "lost", since_ms, error }`; `error` says why it was lost.
 * Read with fetch and not with EventSource, which knows neither headers nor the status of a refusal.
 */
export class Stream {
  #onEvent;
  #onLink;
  #path;
  #link = { state: "connecting", since_ms: Date.now(), error: null };
  #abort = null;
  #wake = null;
  #run = 0;

  constructor(path, onEvent, onLink) {
    this.#path = path;
    this.#onEvent = onEvent;
    this.#onLink = onLink;
  }

  start() {
    this.stop();
    this.#follow(this.#run);
  }

  stop() {
    this.#run += 1;
    this.#abort?.abort();
    this.#wake?.();
  }

  /** Connects anew at once: with another path, or a token that was not there before. */
  restart(path = this.#path) {
    this.#path = path;
    this.#tell("connecting", null);
    this.start();
  }

  async #follow(run) {
    let retry_ms = FIRST_RETRY_MS;
    while (this.#run === run) {
      const abort = (this.#abort = new AbortController());
      try {
        await this.#read(abort, () => (retry_ms = FIRST_RETRY_MS));
        throw new Error("the service ended the stream");
      } catch (error) {
        if (this.#run !== run) return;
        this.#tell("lost", error);
        if (error.isAboutToken) return; // nothing comes of asking again before there is another one
      }
      await this.#pause(retry_ms * (0.75 + Math.random() / 2));
      retry_ms = Math.min(retry_ms * 2, LAST_RETRY_MS);
    }
  }

  async #read(abort, onFirst) {
    let watchdog = 0;
    const alive = () => {
      clearTimeout(watchdog);
      watchdog = setTimeout(() => abort.abort(new Error("the service is silent")), SILENCE_MS);
    };
    alive();
    try {
      const answer = await call(this.#path, { signal: abort.signal, headers: { Accept: "text/event-stream" } });
      const events = new EventParser();
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        alive();
        for (const event of events.take(value)) {
          const show = this.#onEvent[event.name];
          if (!show) continue;
          const data = JSON.parse(event.data);
          onFirst();
          this.#tell("live", null);
          this.#show(show, data);
        }
      }
    } finally {
      clearTimeout(watchdog);
    }
  }

  /** What fails in showing an event is the page's own defect, told as such: the link is as good as before. */
  #show(show, data) {
    try {
      show(data);
    } catch (error) {
      reportError(error);
    }
  }

  #tell(state, error) {
    if (this.#link.state === state) return;
    this.#link = { state, since_ms: Date.now(), error };
    this.#onLink(this.#link);
  }

  #pause(duration_ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, duration_ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

/** Server-sent events out of pieces of text that end anywhere. */
export class EventParser {
  #rest = "";

  take(text) {
    this.#rest = (this.#rest + text).replaceAll("\r\n", "\n");
    const blocks = this.#rest.split("\n\n");
    this.#rest = blocks.pop();
    return blocks.map(parsed).filter((event) => event.data !== "");
  }
}

function parsed(block) {
  const event = { name: "message", data: "" };
  const data = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) event.name = line.slice(6).trim();
    else if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
  }
  event.data = data.join("\n");
  return event;
}
