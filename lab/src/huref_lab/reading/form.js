"use strict";
(() => {
  const study = JSON.parse(document.getElementById("study").textContent);
  const byId = (id) => document.getElementById(id);
  const dice = (n) => crypto.getRandomValues(new Uint32Array(1))[0] % n;
  const session = Array.from(crypto.getRandomValues(new Uint8Array(8)), (b) => b.toString(16).padStart(2, "0")).join("");
  const answers = [];
  let shownAt = 0;

  // The right answers, unscrambled: [base or null, ICS] a question.
  const scrambled = atob(study.key);
  const key = JSON.parse(
    Array.from(scrambled, (c, k) => String.fromCharCode(c.charCodeAt(0) ^ study.id.charCodeAt(k % study.id.length))).join("")
  );

  // Another order for each person, so that nobody's habit of looking top left favours one base.
  const order = study.bases.map((_, k) => k);
  for (let k = order.length - 1; k > 0; k--) {
    const other = dice(k + 1);
    [order[k], order[other]] = [order[other], order[k]];
  }

  const fills = { questions: study.questions.length, bases: study.bases.length, choices: study.bases.length + 1, id: study.id };
  for (const place of document.querySelectorAll("[data-fill]")) place.textContent = fills[place.dataset.fill];

  order.forEach((base, place) => {
    const label = document.createElement("label");
    const input = document.createElement("input");
    const image = document.createElement("img");
    const number = document.createElement("span");
    Object.assign(input, { type: "radio", name: "pick", value: String(base), required: true });
    Object.assign(image, { src: study.bases[base], alt: `Base ${place + 1}`, draggable: false });
    number.textContent = String(place + 1);
    number.setAttribute("aria-hidden", "true");
    label.append(image, input, number);
    byId("bases").lastElementChild.before(label);
  });

  const show = (section) => {
    for (const id of ["start", "question", "end"]) byId(id).hidden = id !== section;
  };

  const ask = () => {
    const at = answers.length;
    byId("question").reset();
    byId("heading").textContent = `Portrait ${at + 1} of ${study.questions.length}`;
    byId("progress").max = study.questions.length;
    byId("progress").value = at;
    byId("portrait").src = study.questions[at];
    byId("portrait").alt = `Portrait ${at + 1}`;
    byId("next").textContent = at + 1 < study.questions.length ? "Next" : "Finish";
    scrollTo(0, 0);
    byId("heading").focus();
    shownAt = performance.now();
  };

  // Wilson's score interval, 95 %; huref_lab.reading.bands.wilson is the same.
  const wilson = (hits, trials) => {
    const z = 1.959963984540054, rate = hits / trials, scale = 1 + (z * z) / trials;
    const middle = rate + (z * z) / (2 * trials);
    const reach = z * Math.sqrt((rate * (1 - rate)) / trials + (z * z) / (4 * trials * trials));
    return [hits === 0 ? 0 : (middle - reach) / scale, hits === trials ? 1 : (middle + reach) / scale];
  };

  const finish = () => {
    const isRight = (answer) => answer.picked === answer.truth;
    const groups = study.bands.map(([name, low, high]) => [
      name, answers.filter((a) => a.truth !== null && a.ics >= low && a.ics < high),
    ]);
    groups.push(["stranger: none of these", answers.filter((a) => a.truth === null)]);
    for (const [name, group] of groups.filter(([, found]) => found.length)) {
      const hits = group.filter(isRight).length;
      const [low, high] = wilson(hits, group.length).map((x) => Math.round(100 * x));
      const row = document.createElement("tr");
      const cells = [name, `${hits} of ${group.length}`, `${Math.round((100 * hits) / group.length)} %`, `${low}\u2013${high} %`];
      cells.forEach((text, k) => {
        const cell = document.createElement(k ? "td" : "th");
        if (!k) cell.scope = "row";
        cell.textContent = text;
        row.append(cell);
      });
      byId("rows").append(row);
    }
    byId("summary").textContent = `You were right ${answers.filter(isRight).length} times in ${answers.length}.`;
    byId("text").value = JSON.stringify(
      {
        schema_version: "huref.reading-answers/1.0",
        study: { id: study.id, bases: study.bases.length, questions: study.questions.length, ...study.about },
        session, finished: new Date().toISOString(), answers,
      },
      null, 1
    );
    show("end");
    byId("done").focus();
  };

  const warn = (event) => event.preventDefault();

  byId("begin").addEventListener("click", () => {
    addEventListener("beforeunload", warn);
    show("question");
    ask();
  });
  byId("question").addEventListener("submit", (event) => {
    event.preventDefault();
    const picked = new FormData(event.target).get("pick");
    const [truth, ics] = key[answers.length];
    answers.push({
      question: answers.length + 1, truth, ics,
      picked: picked === "none" ? null : Number(picked),
      seconds: Math.round(performance.now() - shownAt) / 1000,
    });
    if (answers.length < study.questions.length) ask();
    else finish();
  });
  byId("save").addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([byId("text").value], { type: "application/json" }));
    link.download = `huref-answers-${session}.json`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    removeEventListener("beforeunload", warn);
  });
  show("start");
})();
