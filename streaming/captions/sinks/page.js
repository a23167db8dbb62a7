"use strict";
// Shows the feed as text, and as a text track if the page was asked to play something (?media=URL).
const KEPT = 12; // lines on the page
const AFTER = 0.25; // a cue ends this long after now: at now, a player leaves it on screen
const LEAD = 0.05; // and begins this long after now, so that it is never in the past when added

const list = document.getElementById("captions");
const state = document.getElementById("state");
const player = document.getElementById("player");
const lines = new Map(); // cue_id -> <li>
const shown = new Map(); // cue_id -> VTTCue
const media = new URLSearchParams(location.search).get("media");
let track = null;
if (media) {
  player.hidden = false;
  player.src = media;
  track = player.addTextTrack("captions", "Sounds", "en");
  track.mode = "showing";
}

function plain(text) { // VTTCue text is markup
  return text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

function showLine(cue) {
  let line = lines.get(cue.cue_id);
  if (cue.op === "RETRACT") { line?.remove(); lines.delete(cue.cue_id); return; }
  if (!line) {
    line = document.createElement("li");
    lines.set(cue.cue_id, line);
    list.append(line);
    while (list.children.length > KEPT) list.firstElementChild.remove();
  }
  line.textContent = cue.text;
  line.className = cue.priority + (cue.is_final ? " final" : "");
  line.lang = cue.language;
  if (cue.is_final) lines.delete(cue.cue_id);
}

function showTrack(cue) {
  let text = shown.get(cue.cue_id);
  const now = player.currentTime;
  const seconds = (cue.display_end_ms - cue.display_start_ms) / 1000;
  if (cue.op === "RETRACT") {
    if (text) track.removeCue(text);
    shown.delete(cue.cue_id);
    return;
  }
  if (!text) {
    text = new VTTCue(now + LEAD, now + LEAD + seconds, plain(cue.text));
    text.id = "c" + cue.cue_id;
    shown.set(cue.cue_id, text);
    track.addCue(text);
  }
  text.text = plain(cue.text);
  text.endTime = Math.max(now + AFTER, text.startTime + seconds);
  if (cue.is_final) shown.delete(cue.cue_id);
}

const feed = new EventSource("events");
feed.addEventListener("cue", (event) => {
  const cue = JSON.parse(event.data);
  state.textContent = "heard " + (cue.audio_seen_sample / cue.sample_rate_hz).toFixed(0) + " s";
  if (cue.op === "HEARTBEAT" || !cue.text.trim()) return;
  showLine(cue);
  if (track) showTrack(cue);
});
feed.addEventListener("gap", (event) => {
  const gap = JSON.parse(event.data);
  state.textContent = `captions ${gap.first} to ${gap.last} did not arrive`;
});
feed.addEventListener("end", () => { feed.close(); state.textContent = "ended"; });
feed.addEventListener("error", () => { state.textContent = "connection lost, trying again"; });
