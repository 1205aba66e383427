"use strict";
// The row browser. Strangers' text reaches the page through textContent alone.
(function () {
  const PAGE = 50;
  const LONG = 400; // characters of a review that are shown at first
  const $ = (id) => document.getElementById(id);

  function element(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  // Both languages side by side; the style sheet shows one.
  function bilingual(zh, en) {
    const both = document.createDocumentFragment();
    for (const [name, tag, text] of [["zh", "zh-CN", zh], ["en", "en", en]]) {
      const span = element("span", name, text);
      span.lang = tag;
      both.append(span);
    }
    return both;
  }

  const data = JSON.parse($("data").textContent);
  const rows = data.rows.map(([id, review, gold, cut, status, answers], at) => ({
    id, review, gold, cut, status, answers, nearest: data.nearest[at] || [],
    haystack: [id, review, ...answers.map((answer) => (answer && answer[2]) || "")].join("\n").toLowerCase(),
  }));
  const sure = (row) => row.answers[data.sure];
  const tests = {
    all: () => true,
    fixed: (row) => row.status === "fixed",
    broken: (row) => row.status === "broken",
    wrong: (row) => row.status === "wrong",
    right: (row) => row.status === "right",
    confident: (row) => sure(row) && sure(row)[1] !== null && sure(row)[0] !== row.gold,
  };
  const names = {
    all: ["全部", "all"],
    fixed: ["修正", "fixed"],
    broken: ["弄坏", "broken"],
    wrong: ["仍然错", "still wrong"],
    right: ["都对", "right both times"],
    confident: ["最自信的错误", "most confident errors"],
  };
  const view = { status: "all", gold: "", cut: "", search: "", page: 0 };

  function chosen() {
    const needle = view.search.trim().toLowerCase();
    const matching = rows.filter((row) =>
      tests[view.status](row) &&
      (view.gold === "" || row.gold === Number(view.gold)) &&
      (view.cut === "" || row.cut === (view.cut === "1")) &&
      (needle === "" || row.haystack.includes(needle)));
    return view.status === "confident" ? matching.sort((a, b) => sure(b)[1] - sure(a)[1]) : matching;
  }

  // `text` with the searched words marked.
  function marked(parent, text) {
    const needle = view.search.trim().toLowerCase();
    const low = text.toLowerCase();
    if (needle === "" || low.length !== text.length) return void parent.append(text);
    let from = 0;
    for (let at = low.indexOf(needle); at !== -1; at = low.indexOf(needle, from)) {
      parent.append(text.slice(from, at), element("mark", "", text.slice(at, at + needle.length)));
      from = at + needle.length;
    }
    parent.append(text.slice(from));
  }

  function answered(row, k) {
    const [label, p, answer] = row.answers[k];
    const reading = data.readings[k];
    const right = label === row.gold;
    const line = element("li", reading.stage + (right ? " right" : " wrong"));
    const who = element("span", "who");
    who.append(bilingual(reading.zh, reading.en));
    const said = element("span", "said");
    const mark = element("span", "mark", right ? "✓" : "✗");
    mark.setAttribute("aria-hidden", "true");
    const word = element("b");
    word.append(...(label < 0 ? [bilingual("未解析", "unparsed")] : [data.labels[label]]));
    const aloud = element("span", "aloud");
    aloud.append(right ? bilingual("答对", "right") : bilingual("答错", "wrong"));
    said.append(mark, " ", word, aloud);
    if (p !== null) said.append(element("span", "p", " p = " + p.toFixed(3)));
    if (answer !== null) {
      const quoted = element("q", "answer");
      marked(quoted, answer);
      said.append(" ", quoted);
    }
    line.append(who, said);
    return line;
  }

  function card(row) {
    const item = element("li", "row");
    const head = element("p", "head");
    if (row.status) {
      const badge = element("span", "status " + row.status);
      badge.append(bilingual(...names[row.status]));
      head.append(badge);
    }
    const gold = element("span");
    gold.append(bilingual("真实标签", "gold"), " ", element("b", "", data.labels[row.gold]));
    const id = element("span", "faint");
    id.append("#", row.id);
    head.append(gold, id);
    if (row.cut) {
      const cut = element("span", "faint");
      cut.append(bilingual("被截断", "cut"));
      head.append(cut);
    }
    const review = element("p", "review");
    review.dir = "auto";
    const whole = row.review.length <= LONG || view.search.trim() !== "";
    marked(review, whole ? row.review : row.review.slice(0, LONG) + "…");
    item.append(head, review);
    if (!whole) {
      const more = element("button", "more");
      more.type = "button";
      more.append(bilingual("看全文", "show all"));
      more.addEventListener("click", () => { review.textContent = row.review; more.remove(); });
      item.append(more);
    }
    const main = element("ul", "answers");
    // A row that was not asked in every way has no answer of some readings.
    const asked = data.readings.map((_, k) => k).filter((k) => row.answers[k]);
    const shown = asked.filter((k) => data.pair.includes(k));
    const first = shown.length ? shown : data.sure >= 0 ? asked.filter((k) => k === data.sure) : asked;
    main.append(...first.map((k) => answered(row, k)));
    item.append(main);
    if (row.nearest.length) {
      const details = element("details");
      const summary = element("summary");
      const same = row.nearest.filter((one) => one[1] === row.gold).length;
      const share = `${same} / ${row.nearest.length}`;
      summary.append(bilingual(
        `最相似的训练行：${share} 与真实标签相同`, `most similar training rows: ${share} bear the gold label`));
      const list = element("ul", "nearest");
      list.append(...row.nearest.map(([id, label, similarity, review]) => {
        const one = element("li");
        const text = element("span", "review", review);
        text.dir = "auto";
        one.append(element("b", "", data.labels[label]), element("span", "p", ` #${id} cos = ${similarity.toFixed(2)} `), text);
        return one;
      }));
      details.append(summary, list);
      item.append(details);
    }
    const others = asked.filter((k) => !first.includes(k));
    if (others.length) {
      const details = element("details");
      const summary = element("summary");
      const right = others.filter((k) => row.answers[k][0] === row.gold).length;
      const share = `${right} / ${others.length}`;
      summary.append(bilingual(`其余判读：${share} 答对`, `other readings: ${share} right`));
      // Filled when it is opened: nobody opens most of them.
      details.addEventListener("toggle", () => {
        if (details.children.length > 1) return;
        const list = element("ul", "answers");
        list.append(...others.map((k) => answered(row, k)));
        details.append(list);
      });
      details.append(summary);
      item.append(details);
    }
    return item;
  }

  function draw() {
    const matching = chosen();
    const pages = Math.max(1, Math.ceil(matching.length / PAGE));
    view.page = Math.min(view.page, pages - 1);
    const [n, all] = [matching.length.toLocaleString("en"), rows.length.toLocaleString("en")];
    $("count").replaceChildren(bilingual(`${all} 条中的 ${n} 条`, `${n} of ${all} rows`));
    $("rows").replaceChildren(...matching.slice(view.page * PAGE, (view.page + 1) * PAGE).map(card));
    $("page").replaceChildren(
      bilingual(`第 ${view.page + 1} / ${pages} 页`, `page ${view.page + 1} of ${pages}`));
    $("previous").disabled = view.page === 0;
    $("next").disabled = view.page >= pages - 1;
    for (const button of $("status").children) {
      button.setAttribute("aria-pressed", String(button.dataset.status === view.status));
    }
  }

  function change(part) {
    Object.assign(view, { page: 0 }, part);
    draw();
  }

  function turn(by) {
    view.page += by;
    draw();
    $("controls").scrollIntoView();
  }

  for (const status of Object.keys(tests)) {
    if (status === "confident" && data.sure < 0) continue;
    if (status !== "all" && status !== "confident" && !data.pair.length) continue;
    const button = element("button");
    button.type = "button";
    button.dataset.status = status;
    button.append(bilingual(...names[status]), " ",
      element("span", "faint", rows.filter(tests[status]).length.toLocaleString("en")));
    button.addEventListener("click", () => change({ status }));
    $("status").append(button);
  }
  data.labels.forEach((label, k) => {
    const option = element("option", "", label);
    option.value = String(k);
    $("gold").append(option);
  });
  $("gold").addEventListener("change", (event) => change({ gold: event.target.value }));
  $("cut").addEventListener("change", (event) => change({ cut: event.target.value }));
  $("search").addEventListener("input", (event) => change({ search: event.target.value }));
  $("previous").addEventListener("click", () => turn(-1));
  $("next").addEventListener("click", () => turn(1));
  $("controls").hidden = false;
  draw();
})();
