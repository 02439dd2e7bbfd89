// Keeps the page up to date. Everything works without it; then a reload shows what is new.
const at = (id) => document.getElementById(id);
let skew = 0;
let ends = {};

const show = (state) => {
  skew = Date.parse(state.now) - Date.now();
  ends = state.inspected?.ends ?? {};
  for (const name of ["origin", "device", "id", "place", "bytes", "primary"]) at(name).textContent = state[name];
  at("subject").textContent = state.subject ?? "none";
  at("cookie").textContent = state.cookie ?? "none";
  at("inspected").textContent = JSON.stringify(state.inspected, null, 2);
  at("row").textContent = state.row ? `, with a row of ${state.row} bytes` : "";
  at("replay").disabled = !state.kept;
  const meter = at("meter");
  meter.firstElementChild.style.width = `${Math.min(100, (100 * state.bytes) / state.limit)}%`;
  meter.classList.toggle("over", state.bytes > state.spill_above);
  meter.setAttribute("aria-label", `${state.bytes} of ${state.limit} bytes, ${state.spill_above} at the mark`);
};

const tick = () => {
  const now = Date.now() + skew;
  at("now").textContent = new Date(now).toISOString().slice(11, 19);
  for (const name of ["duration", "idle", "absolute"]) {
    const left = Math.floor((Date.parse(ends[name]) - now) / 1000);
    const clock = `${Math.floor(left / 60)} min ${String(left % 60).padStart(2, "0")} s`;
    at(name).textContent = Number.isNaN(left) ? "none" : left > 0 ? `in ${clock}` : "over";
  }
};

const refresh = async () => show(await (await fetch("/state")).json());
let soon;
new EventSource("/events").onmessage = ({ data }) => {
  const { event, detail } = JSON.parse(data);
  const line = document.createElement("li");
  const word = document.createElement("b");
  word.textContent = event;
  line.append(word, ` ${detail}`);
  at("events").prepend(line);
  // Looking at the state is told as well, and must not lead to the next look.
  if (event === "resumed" || event === "rejected") return;
  clearTimeout(soon);
  soon = setTimeout(refresh, 100);
};
refresh().then(tick);
setInterval(tick, 1000);
