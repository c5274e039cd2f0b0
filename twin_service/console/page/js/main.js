// The page: a stream of snapshots in, every part told of each, motion between them.

import { byId, mark, say } from "./dom.js";
import { Detail } from "./detail.js";
import { Devices } from "./devices.js";
import { Edges } from "./edges.js";
import { Feed } from "./feed.js";
import { clock } from "./format.js";
import { Stream } from "./service.js";
import { askToken, forgetToken, watchTokenButton } from "./token.js";
import { Totals } from "./totals.js";

const still = matchMedia("(prefers-reduced-motion: reduce)");
const totals = new Totals();
const edges = new Edges();
const feed = new Feed();
const detail = new Detail();
const devices = new Devices(showChosen, (offset) => stream.restart(`api/events?offset=${offset}`));
const stream = new Stream("api/events", { backlogs: (past) => edges.recall(past), snapshot: onSnapshot }, onLink);
const pause = byId("pause");
let newest = null;
let isPaused = false;

function onSnapshot(snapshot) {
  if (isPaused) return;
  newest = snapshot;
  totals.update(snapshot);
  devices.update(snapshot);
  edges.update(snapshot);
  showChosen();
}

function showChosen() {
  if (newest === null) return;
  const chosen = devices.chosen;
  detail.update(newest.devices.find((device) => device.id === chosen), chosen);
  feed.update(newest, chosen);
  if (still.matches) draw(performance.now());
}

async function onLink(link) {
  mark(document.body, "data-link", link.state);
  if (link.state !== "lost") say(byId("link"), link.state === "live" ? "live" : "connecting to the twin service");
  if (link.state !== "lost") return;
  if (link.error?.isAboutToken) {
    say(byId("link"), "reading needs the token");
    forgetToken();
    if (await askToken(link.error.message)) stream.restart();
  } else {
    say(byId("link"), `twin service not reachable since ${clock(link.since_ms / 1000)}, retrying`);
  }
}

function draw(now) {
  devices.draw(now, still.matches);
  detail.draw(now, still.matches);
}

function move(now) {
  if (!isPaused) draw(now);
  if (!still.matches) requestAnimationFrame(move);
}

still.addEventListener("change", () => requestAnimationFrame(move));
pause.addEventListener("click", () => {
  isPaused = !isPaused;
  mark(pause, "aria-pressed", String(isPaused));
  mark(document.body, "data-paused", isPaused);
});
// A page that nobody looks at costs the service nothing.
document.addEventListener("visibilitychange", () => (document.hidden ? stream.stop() : stream.start()));
watchTokenButton(() => stream.restart());
requestAnimationFrame(move);
stream.start();
