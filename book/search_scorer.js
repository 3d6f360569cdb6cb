// How the book's search orders its results. Sphinx gives a page the score of its best word, so all
// pages with one of the words in a title or a table's caption are level. Here a page is as good as
// its best title: the more of the words a title has, and the fewer others, the better.
var Scorer = {
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,

  score: ([page, title, anchor, description, score]) => {
    const { docnames, alltitles } = Search._index;
    const stemmer = new Stemmer();
    const stems = (text) =>
      splitQuery(text.toLowerCase()).map((word) => stemmer.stemWord(word));
    const query = new URLSearchParams(window.location.search).get("q") ?? "";
    const wanted = new Set(stems(query));
    const place = docnames.indexOf(page);
    let best = 0;
    for (const [text, places] of Object.entries(alltitles)) {
      if (!places.some(([file]) => file === place)) continue;
      const words = stems(text);
      const found = new Set(words.filter((word) => wanted.has(word))).size;
      best = Math.max(best, found + found / Math.max(words.length, 1));
    }
    return score + Scorer.title * best;
  },
};
