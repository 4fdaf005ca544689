// The order of search results. A page of a section for developers, or for TensorFlow 1, follows pages with similar hits.
const LATER = ["internals/", "tensorflow-1/"];
const SOONER = ["start/", "guides/", "frameworks/", "operations/"];
const startsWithOneOf = (name, sections) => sections.some((section) => name.startsWith(section));
var Scorer = {
  score: ([name, , , , score]) =>
    score + (startsWithOneOf(name, SOONER) ? 4 : 0) - (startsWithOneOf(name, LATER) ? 8 : 0),
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
