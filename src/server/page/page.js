// The live page: reads /status/stream, and sends what is typed to the same API as any client.
// Both are read by fetch, since an EventSource cannot carry an API key.

/** @typedef {import("../observe/status.ts").ServerStatus} ServerStatus */
/** @typedef {import("../observe/status.ts").ReplicaStatus} ReplicaStatus */
/** @typedef {import("../observe/status.ts").RankStatus} RankStatus */
/** @typedef {{ error?: { message: string } }} ErrorBody */
/**
 * @typedef {{
 *   choices: { text?: string, delta?: { content?: string } }[],
 *   usage?: { completion_tokens: number },
 * }} Chunk
 */

const RETRY_MS = 2000;
const CHART_SAMPLES = 120;
/** @type {number[]} */
const history = [];
/** @type {{ role: string, content: string }[]} */
const messages = [];

/**
 * @param {string} id
 * @returns {HTMLElement}
 */
function at(id) {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no ${id}`);
  return found;
}

/**
 * @param {string} id
 * @returns {HTMLInputElement}
 */
function field(id) {
  return /** @type {HTMLInputElement} */ (at(id));
}

/**
 * @param {string} tag
 * @param {(string | Node)[]} children
 * @returns {HTMLElement}
 */
function make(tag, ...children) {
  const element = document.createElement(tag);
  element.append(...children);
  return element;
}

/**
 * @param {string} text
 * @returns {unknown}
 */
function parse(text) {
  return JSON.parse(text);
}

/** @returns {Record<string, string>} */
function headers() {
  const key = field("key").value;
  return key === "" ? {} : { authorization: `Bearer ${key}` };
}

/**
 * The JSON of each `data:` line, until [DONE] or the end.
 * @param {Response} response
 * @returns {AsyncGenerator<unknown, void, undefined>}
 */
async function* events(response) {
  if (!response.ok || response.body === null) throw new Error(await errorOf(response));
  let rest = "";
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    const lines = (rest + part.value).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      if (!line.startsWith("data: ") || line === "data: [DONE]") continue;
      const event = /** @type {ErrorBody} */ (parse(line.slice("data: ".length)));
      if (event.error !== undefined) throw new Error(event.error.message);
      yield event;
    }
  }
}

/**
 * @param {Response} response
 * @returns {Promise<string>}
 */
async function errorOf(response) {
  try {
    const body = /** @type {ErrorBody} */ (parse(await response.text()));
    return body.error?.message ?? `status ${response.status}`;
  } catch {
    return `status ${response.status}`;
  }
}

/**
 * @param {unknown} error
 * @returns {string}
 */
function messageOf(error) {
  return error instanceof Error ? error.message : String(error);
}

/** Follows the server's state for as long as the page is open. */
async function follow() {
  for (;;) {
    try {
      const response = await fetch("status/stream", { headers: headers() });
      for await (const status of events(response)) show(/** @type {ServerStatus} */ (status));
      at("connection").textContent = "The server ended the connection.";
    } catch (error) {
      at("connection").textContent = `Not connected: ${messageOf(error)}`;
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}

/** @param {ServerStatus} status */
function show(status) {
  const { replicas } = status;
  /**
   * @param {(replica: ReplicaStatus) => number} read
   * @returns {number}
   */
  const sum = (read) => replicas.reduce((all, each) => all + read(each), 0);
  const generated = sum((each) => each.generated_tokens_per_s);
  const ranks = replicas.flatMap((each) => each.ranks);
  const steps = ranks.flatMap((rank) => rank.collective_ms_per_step ?? []);
  at("model").textContent =
    `${status.model}, ${status.dtype}, KV cache ${status.kv_cache_dtype}, ${status.max_model_len} tokens`;
  at("connection").textContent = status.is_draining ? "The server is shutting down." : "Connected.";
  at("generated").textContent = generated.toFixed(1);
  at("prompted").textContent = sum((each) => each.prompt_tokens_per_s).toFixed(1);
  at("running").textContent = String(sum((each) => each.num_running));
  at("waiting").textContent = String(sum((each) => each.num_waiting));
  at("collective").textContent = steps.length === 0 ? "–" : Math.max(...steps).toFixed(2);
  at("replicas").replaceChildren(...replicas.map(replicaView));
  drawChart(generated);
  if (!status.has_chat_template) disableChat();
}

function disableChat() {
  const chat = /** @type {HTMLInputElement} */ (document.querySelector("input[value=chat]"));
  chat.disabled = true;
  at("modes").title = "This model has no chat template.";
}

/** @param {ReplicaStatus} replica */
function replicaView(replica) {
  const { used_blocks: used, num_blocks: all, block_size: size } = replica;
  const meter = /** @type {HTMLMeterElement} */ (make("meter"));
  const usage = `${used * size} of ${all * size} tokens`;
  Object.assign(meter, { min: 0, max: all, value: used });
  meter.setAttribute("aria-label", `KV cache: ${usage}`);
  const state = make("strong", replica.state);
  if (replica.state !== "ready") state.className = "bad";
  const caption = make(
    "caption",
    ...[`Replica ${replica.replica}: `, state, replica.cause === null ? "" : ` (${replica.cause})`],
    ...[
      `, ${replica.num_running} of ${replica.max_num_seqs} running, KV cache `,
      meter,
      ` ${usage}`,
    ],
  );
  const titles = [
    "Rank",
    "Device",
    "Stage",
    "Layers",
    "Weights MB",
    "Steps/s",
    "Collectives ms/step",
  ];
  const head = make("tr", ...titles.map((title) => make("th", title)));
  const table = make(
    "table",
    caption,
    make("thead", head),
    make("tbody", ...replica.ranks.map(rankRow)),
  );
  const scroll = make("div", table);
  scroll.className = "scroll";
  return scroll;
}

/** @param {RankStatus} rank */
function rankRow(rank) {
  const device = `${rank.device_index} ${rank.device}${rank.is_virtual ? " (virtual)" : ""}`;
  const cells = [
    ...[
      String(rank.rank),
      device,
      String(rank.pp_rank),
      `${rank.layers.begin}–${rank.layers.end - 1}`,
    ],
    ...[(rank.weight_bytes / 1e6).toFixed(1), rank.steps_per_s.toFixed(1)],
    rank.collective_ms_per_step === null ? "–" : rank.collective_ms_per_step.toFixed(2),
  ];
  return make("tr", ...cells.map((text) => make("td", text)));
}

/** @param {number} tokensPerS */
function drawChart(tokensPerS) {
  history.push(tokensPerS);
  if (history.length > CHART_SAMPLES) history.shift();
  const highest = Math.max(...history, 1);
  const points = history.map((value, index) => {
    const x = (600 * index) / (CHART_SAMPLES - 1);
    return `${x.toFixed(1)},${(78 - (76 * value) / highest).toFixed(1)}`;
  });
  at("line").setAttribute("points", points.join(" "));
}

/** @returns {"chat" | "completion"} */
function mode() {
  const chosen = document.querySelector("input[name=mode]:checked");
  return chosen instanceof HTMLInputElement && chosen.value === "chat" ? "chat" : "completion";
}

/** @param {AbortSignal} signal */
async function generate(signal) {
  const isChat = mode() === "chat";
  const prompt = field("prompt").value;
  if (isChat) messages.push({ role: "user", content: prompt });
  const body = {
    ...(isChat ? { messages } : { prompt, echo: true }),
    max_tokens: Number(field("max-tokens").value),
    temperature: Number(field("temperature").value),
    stream: true,
    stream_options: { include_usage: true },
  };
  const startMs = performance.now();
  let [text, firstMs] = ["", 0];
  const response = await fetch(isChat ? "v1/chat/completions" : "v1/completions", {
    method: "POST",
    headers: { "content-type": "application/json", ...headers() },
    body: JSON.stringify(body),
    signal,
  });
  for await (const event of events(response)) {
    const { choices, usage } = /** @type {Chunk} */ (event);
    const piece = choices[0]?.delta?.content ?? choices[0]?.text ?? "";
    if (firstMs === 0 && piece !== "") firstMs = performance.now();
    text += piece;
    at("answer").textContent = text;
    if (usage !== undefined) showSpeed(usage.completion_tokens, startMs, firstMs);
  }
  if (!isChat) return;
  messages.push({ role: "assistant", content: text });
  field("prompt").value = "";
  at("answer").textContent = "";
  const views = messages.map(({ role, content }) => make("p", make("b", `${role}: `), content));
  for (const view of views) view.className = "message";
  at("conversation").replaceChildren(...views);
}

/**
 * @param {number} numTokens
 * @param {number} startMs
 * @param {number} firstMs
 */
function showSpeed(numTokens, startMs, firstMs) {
  const seconds = (performance.now() - firstMs) / 1000;
  const rate = numTokens > 1 ? `, then ${((numTokens - 1) / seconds).toFixed(1)} tok/s` : "";
  const ttft = (firstMs - startMs).toFixed(0);
  at("speed").textContent = `${numTokens} tokens, the first after ${ttft} ms${rate}`;
}

/** @type {AbortController | undefined} */
let running;

async function run() {
  running = new AbortController();
  at("speed").textContent = "";
  at("answer").textContent = "";
  field("send").disabled = true;
  field("stop").disabled = false;
  try {
    await generate(running.signal);
  } catch (error) {
    const isStopped = running.signal.aborted;
    at("speed").textContent = isStopped ? "Stopped." : `Error: ${messageOf(error)}`;
  } finally {
    field("send").disabled = false;
    field("stop").disabled = true;
  }
}

at("form").addEventListener("submit", (event) => {
  event.preventDefault();
  void run();
});
at("stop").addEventListener("click", () => running?.abort());
void follow();
