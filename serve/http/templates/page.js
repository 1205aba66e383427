// The page: one text at once, a table in pieces, and what the classifier is worth. All from this server alone.
(function () {
  const at = (id) => document.getElementById(id);
  const root = document.documentElement;
  const zh = () => root.dataset.lang === "zh";
  let key = "", about = null, shown = null, job = null;
  const CHUNK = 64, CHARACTERS = 200000, SIDE = 2;

  class Failed extends Error {
    constructor(status, message, wait) { super(message); this.status = status; this.wait = wait; }
  }
  async function call(path, body) {
    const headers = key ? { Authorization: "Bearer " + key } : {};
    if (body) headers["Content-Type"] = "application/json";
    let answer;
    try {
      answer = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body) });
    } catch {
      throw new Failed(0, zh() ? "连不上服务：它可能已停止。" : "The server cannot be reached: it may have ended.", 2);
    }
    if (answer.status === 204) return null;
    const value = await answer.json().catch(() => ({}));
    if (answer.ok) return value;
    const wait = Number(answer.headers.get("Retry-After")) || 2;
    throw new Failed(answer.status, value.error?.message ?? String(answer.status), wait);
  }
  const pause = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));
  const retried = (failure) => [0, 429, 503, 504].includes(failure.status);

  function make(tag, more, ...children) {
    const element = Object.assign(document.createElement(tag), more);
    element.append(...children);
    return element;
  }
  function both(chinese, english) {
    return [make("span", { className: "zh", lang: "zh-CN", textContent: chinese }),
      make("span", { className: "en", lang: "en", textContent: english })];
  }
  const percent = (p) => (p * 100).toFixed(1) + "%";
  function trouble(message) {
    at("trouble").textContent = message;
    at("trouble").hidden = !message;
  }

  function bar(name, share, value, top) {
    const fill = make("i");
    fill.style.width = share * 100 + "%";
    const track = make("span", { className: "track" }, fill);
    track.setAttribute("aria-hidden", "true");
    const who = make("span", { className: "who", dir: "auto", textContent: name });
    return make("li", { className: top ? "top" : "" }, who, track, make("span", { className: "value", textContent: value }));
  }

  // One text
  function inputs() {
    return [...at("inputs").querySelectorAll("textarea")];
  }
  function given() {
    const values = inputs().map((one) => one.value);
    return about.columns.length > 1 ? Object.fromEntries(about.columns.map((name, i) => [name, values[i]])) : values[0];
  }
  async function ask() {
    const input = given(), own = shown = {};
    trouble("");
    if (!inputs().some((one) => one.value.trim())) return inputs()[0].focus();
    at("try").setAttribute("aria-busy", "true");
    try {
      const answer = await call("/classify", { input: [input] });
      if (shown !== own) return;
      show(answer.data[0]);
      at("hint").hidden = about.columns.length > 1;
      at("pieces").textContent = about.columns.length > 1 ? "" : input;
      if (about.columns.length > 1) return;
      const hint = await call("/occlusion", { input });
      if (shown === own) weigh(hint.pieces);
    } catch (failure) {
      if (shown === own) trouble(failure.message);
    } finally {
      at("try").removeAttribute("aria-busy");
    }
  }
  function show(answer) {
    const p = answer.probs[about.labels.indexOf(answer.label)];
    at("label").textContent = answer.label;
    at("share").textContent = percent(p);
    at("cut").hidden = !answer.cut;
    const order = about.labels.map((name, i) => [name, answer.probs[i]]);
    if (order.length > 3) order.sort((a, b) => b[1] - a[1]);
    at("bars").replaceChildren(...order.map(([name, share]) => bar(name, share, percent(share), name === answer.label)));
    at("rule").className = !judges() ? "" : answer.abstained ? "unsure" : "sure";
    at("rule").replaceChildren(...both(...rule(answer, p)));
    at("result").hidden = false;
  }
  const byCost = () => about.costs && about.thresholds.cost != null;
  const judges = () => byCost() || about.thresholds.selective != null;
  // What the threshold says, in both languages.
  function rule(answer, p) {
    const { selective, target } = about.thresholds;
    const [least, wanted] = [selective, target].map((one) => (one == null ? "" : percent(one)));
    if (byCost()) {
      return answer.abstained ? ["按错误的代价，请人看更划算。", "By what errors cost, it is cheaper to ask a person."]
        : ["按错误的代价，可以直接采用。", "By what errors cost, the answer can be used."];
    }
    if (!judges()) {
      return target == null ? ["没有设定放行阈值：这是最可能的标签。", "No threshold was set: this is the most likely label."]
        : [`验证集上没有哪个阈值能保证 ${wanted} 的准确率：请人复核。`,
          `No threshold was found at which ${wanted} of the answers are right: have a person check.`];
    }
    if (answer.abstained) {
      return [`低于阈值 ${least}：请人看一眼。`, `Below the threshold of ${least}: a person should look at it.`];
    }
    return wanted ? [`达到阈值 ${least}：验证集上这样的回答 ${wanted} 以上是对的。`,
      `At or above the threshold of ${least}, from which on at least ${wanted} of the answers on validation rows were right.`]
      : [`达到阈值 ${least}。`, `At or above the threshold of ${least}.`];
  }
  function weigh(pieces) {
    const most = Math.max(1e-9, ...pieces.map((one) => Math.abs(one.weight)));
    at("pieces").replaceChildren(...pieces.map((one) => {
      const span = make("span", { textContent: one.text, title: one.weight.toFixed(2) });
      const share = Math.abs(one.weight) / most;
      if (share > .15) span.style.background = `rgb(var(--${one.weight > 0 ? "tint" : "wrong"}) / ${(share * .5).toFixed(2)})`;
      return span;
    }));
  }

  // A table
  async function take(file) {
    if (!file) return;
    job?.stop();
    job = null;
    trouble("");
    at("table").hidden = at("progress").hidden = at("download").hidden = true;
    const text = tables.decoded(new Uint8Array(await file.arrayBuffer()));
    const rows = text === null ? [] : tables.parsed(text, tables.delimiterOf(text));
    if (rows.length < 2) {
      return trouble(zh() ? `${file.name}：不是带表头的 CSV；Excel 表请另存为 CSV。`
        : `${file.name} is no CSV with a header; save an Excel table as CSV.`);
    }
    const [header, ...body] = rows;
    const other = body.findIndex((row) => row.length !== header.length);
    if (other >= 0) {
      return trouble(zh() ? `${file.name}：第 ${other + 2} 行有 ${body[other].length} 列，表头有 ${header.length} 列；给含分隔符的文本加上引号。`
        : `${file.name}: row ${other + 2} has ${body[other].length} fields, the header ${header.length}; put texts with the delimiter in quotes.`);
    }
    job = { name: file.name, header, body, answers: new Array(body.length).fill(null), next: 0, stop() { this.stopped = true; } };
    at("filename").textContent = file.name;
    at("size").replaceChildren(...both(`${body.length.toLocaleString()} 行`, `${body.length.toLocaleString()} rows`));
    at("columns").replaceChildren(...about.columns.map((name) => {
      const select = make("select", {}, ...header.map((one, i) => make("option", { value: i, textContent: one || `(${i + 1})` })));
      const longest = header.map((_, i) => body.slice(0, 50).reduce((sum, row) => sum + (row[i] ?? "").length, 0));
      const same = header.indexOf(name);
      select.value = same >= 0 ? same : longest.indexOf(Math.max(...longest));
      const caption = about.columns.length > 1 ? [name] : both("文本列", "Text column");
      return make("label", { className: "grow" }, ...caption, select);
    }));
    at("start").hidden = at("table").hidden = false;
  }
  function textsOf(row, places) {
    const texts = places.map((place) => row[place] ?? "");
    return about.columns.length > 1 ? Object.fromEntries(about.columns.map((name, i) => [name, texts[i]])) : texts[0];
  }
  // Why a row is not sent, in English as the reasons of the server are; null for one that is.
  function fault(row, places) {
    const whole = places.map((place) => row[place] ?? "").join("");
    if (!whole.trim()) return "empty";
    return [...whole].length > about.limits.characters ? "too long" : null;
  }
  async function label(own) {
    const places = [...at("columns").querySelectorAll("select")].map((one) => Number(one.value));
    own.stopped = false;
    at("start").hidden = at("download").hidden = true;
    at("stop").hidden = at("progress").hidden = false;
    own.began = performance.now();
    own.before = own.next;
    progress(own);
    try {
      while (own.next < own.body.length && !own.stopped) {
        const parts = [];
        let end = own.next;
        for (let side = 0; side < SIDE && end < own.body.length; side += 1) {
          const rows = [];
          for (let size = 0; end < own.body.length && rows.length < CHUNK && size < CHARACTERS; end += 1) {
            const reason = fault(own.body[end], places);
            if (reason) own.answers[end] = { reason };
            else { rows.push(end); size += places.reduce((sum, place) => sum + (own.body[end][place] ?? "").length, 0); }
          }
          parts.push(send(own, rows, places));
        }
        await Promise.all(parts);
        if (own !== job) return;
        own.next = end;
        progress(own);
      }
    } catch (failure) {
      trouble(failure.message);
    }
    at("stop").hidden = true;
    at("start").hidden = own.next >= own.body.length;
    if (own.next >= own.body.length) offer(own);
  }
  async function send(own, rows, places) {
    if (!rows.length) return;
    for (let tries = 0; ; tries += 1) {
      try {
        const answer = await call("/classify", { input: rows.map((row) => textsOf(own.body[row], places)) });
        answer.data.forEach((one, i) => { own.answers[rows[i]] = one; });
        return;
      } catch (failure) {
        if (failure.status === 422 || failure.status === 500 || failure.status === 413) {
          if (rows.length === 1) { own.answers[rows[0]] = { reason: failure.message }; return; }
          for (const row of rows) await send(own, [row], places);
          return;
        }
        if (!retried(failure) || tries > 20 || own.stopped) throw failure;
        await pause(failure.wait);
      }
    }
  }
  function progress(own) {
    const rate = (own.next - own.before) / Math.max(.001, (performance.now() - own.began) / 1000);
    const left = rate ? Math.ceil((own.body.length - own.next) / rate) : 0;
    const [n, all] = [own.next, own.body.length].map((one) => one.toLocaleString());
    at("bar").value = own.next / own.body.length;
    const rest = left ? [`，约剩 ${left} 秒`, `, some ${left} s left`] : ["", ""];
    at("done").replaceChildren(...both(`${n} / ${all} 行，每秒 ${rate.toFixed(0)} 行${rest[0]}`,
      `${n} of ${all} rows, ${rate.toFixed(0)} rows/s${rest[1]}`));
    const answered = own.answers.slice(0, own.next);
    const counts = about.labels.map((name) => [name, answered.filter((one) => one?.label === name).length]);
    const most = Math.max(1, ...counts.map((one) => one[1]));
    at("counts").replaceChildren(...counts.map(([name, count]) => bar(name, count / most, count.toLocaleString(), true)));
    const asked = answered.filter((one) => one?.abstained).length, bad = answered.filter((one) => one?.reason).length;
    at("done").append(...both(`；请人看 ${asked} 行，不能用 ${bad} 行`, `; ${asked} for a person, ${bad} not usable`));
  }
  function offer(own) {
    const added = ["label", "confidence", ...about.labels.map((name) => "p_" + name), "abstained", "reason"];
    const names = added.map((name) => { while (own.header.includes(name)) name += "_2"; return name; });
    const lines = own.body.map((row, i) => {
      const one = own.answers[i];
      const values = one.reason ? [...added.map(() => ""), ""].slice(2).concat(one.reason)
        : [one.label, one.probs[about.labels.indexOf(one.label)], ...one.probs, one.abstained, ""];
      return tables.line([...row, ...values]);
    });
    const blob = new Blob(["\ufeff", tables.line([...own.header, ...names]), ...lines], { type: "text/csv" });
    if (at("download").href) URL.revokeObjectURL(at("download").href);
    Object.assign(at("download"), { href: URL.createObjectURL(blob), download: own.name.replace(/\.\w+$/, "") + ".labelled.csv", hidden: false });
    at("download").focus();
  }

  // What the classifier is worth
  function facts() {
    const m = about.measured, figure = (one) => one.toFixed(3);
    const names = { macro_f1: ["宏平均 F1", "macro F1"], accuracy: ["准确率", "accuracy"],
      balanced_accuracy: ["平衡准确率", "balanced accuracy"], mcc: ["MCC", "MCC"] };
    const [chinese, english] = names[m.metric] ?? [m.metric, m.metric];
    const interval = m.interval ? `${figure(m.interval[0])}–${figure(m.interval[1])}` : "–";
    const readings = { tuned: ["调优后的语言模型", "the tuned language model"], linear: ["TF-IDF + 线性模型", "TF-IDF + linear model"],
      stack: ["调优后的语言模型 + 线性模型", "the tuned language model with the linear model"] };
    const { selective, target } = about.thresholds;
    const rows = [
      [["测试结果", "Measured"], [`${chinese} ${figure(m.value)}，95% 区间 ${interval}，n = ${m.n.toLocaleString()}`,
        `${english} ${figure(m.value)}, 95% interval ${interval}, n = ${m.n.toLocaleString()}`]],
      [["由谁回答", "Answered by"], readings[about.reading]],
      about.base_model && [["基座", "Base model"], [about.base_model, about.base_model]],
      selective != null && [["放行阈值", "Threshold"], [
        `${percent(selective)}` + (target == null ? "" : `（验证集上准确率达到 ${percent(target)}）`),
        `${percent(selective)}` + (target == null ? "" : ` (reaches ${percent(target)} accuracy on validation rows)`)]],
      about.temperature !== 1 && [["温度", "Temperature"], [figure(about.temperature), figure(about.temperature)]],
      ...Object.entries(about.licences).map(([what, licence]) => [[`许可（${{ base: "基座", data: "数据" }[what] ?? what}）`, `Licence (${what})`], [licence, licence]]),
    ].filter(Boolean);
    at("facts").replaceChildren(...rows.map(([term, text]) =>
      make("div", {}, make("dt", {}, ...both(...term)), make("dd", {}, ...both(...text)))));
    at("report").hidden = !about.report;
    at("card").hidden = !about.card;
    at("links").hidden = !about.report && !about.card;
    const options = about.labels.slice(0, 20).map((name) => `{"value": ${JSON.stringify(name)}}`).join(", ");
    at("sample").textContent = [
      "from openai import OpenAI",
      `client = OpenAI(base_url="${location.origin}/v1", api_key="${key ? "…" : "none"}")`,
      "answer = client.decisions.create(",
      `    model=${JSON.stringify(about.name)},`,
      `    input="…",`,
      `    questions=[{"type": "choice", "name": "label", "instructions": "",`,
      `                "choices": [${options}]}],`,
      ")",
      "print(answer.answers[0].choice, answer.answers[0].probabilities)",
    ].join("\n");
  }

  async function begin() {
    for (;;) {
      try {
        about = await call("/v1/classifier");
        if (key) await call("/session", {});
        break;
      } catch (failure) {
        if (failure.status === 401) {
          if (key) trouble(zh() ? "密钥不对。" : "That is not the key.");
          at("key").hidden = false;
          at("secret").focus();
          return;
        }
        trouble(failure.status === 503 ? (zh() ? "模型正在加载……" : "The model is being loaded …") : failure.message);
        if (!retried(failure)) return;
        await pause(failure.wait);
      }
    }
    trouble("");
    at("key").hidden = true;
    at("name").textContent = about.name;
    document.title = about.name;
    const more = about.labels.length > 20 ? " …" : "", first = about.labels.slice(0, 20);
    at("labels").replaceChildren(...both(first.join("、") + more, first.join(", ") + more));
    at("inputs").replaceChildren(...about.columns.map((name) => {
      const area = make("textarea", { rows: 4, spellcheck: false });
      area.setAttribute("dir", "auto");
      area.addEventListener("keydown", (event) => {
        if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); ask(); }
      });
      return make("label", {}, name, area);
    }));
    facts();
    at("all").hidden = false;
    inputs()[0].focus();
  }

  at("key").addEventListener("submit", (event) => { event.preventDefault(); key = at("secret").value.trim(); trouble(""); begin(); });
  at("try").addEventListener("submit", (event) => { event.preventDefault(); ask(); });
  at("clear").addEventListener("click", () => {
    shown = null;
    inputs().forEach((one) => { one.value = ""; });
    at("result").hidden = true;
    trouble("");
    inputs()[0].focus();
  });
  at("file").addEventListener("change", () => { take(at("file").files[0]); at("file").value = ""; });
  const drop = at("drop");
  for (const kind of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", kind === "dragover");
      if (kind === "drop") take(event.dataTransfer.files[0]);
    });
  }
  at("start").addEventListener("click", () => { trouble(""); label(job); });
  at("stop").addEventListener("click", () => job.stop());
  if (navigator.language && !navigator.language.startsWith("zh")) {
    document.querySelector(".switch [data-lang=en]").click();
  }
  begin();
})();
