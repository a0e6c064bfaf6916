// What examples can be here: how a kind of the service is shown, and what its things are called.

export const MODES = {
  draw: {
    kind: "pictures", task: "Drawings", title: "Draw", noun: ["drawing", "drawings"], learner: "drawings",
    first: "Draw something, then give it a name.",
    compared: ["drawings", "drawings-maml", "knn"],
  },
  pictures: {
    kind: "pictures", task: "Pictures", title: "Pictures", noun: ["picture", "pictures"], learner: "auto",
    first: "Choose a picture, then give it a name.",
    compared: ["pictures", "logistic", "knn"],
  },
  sounds: {
    kind: "sounds", task: "Sounds", title: "Sounds", noun: ["sound", "sounds"], learner: "auto",
    first: "Record a sound, then give it a name.",
    compared: ["sounds", "logistic", "knn"],
  },
  texts: {
    kind: "texts", task: "Sentences", title: "Sentences", noun: ["sentence", "sentences"], learner: "auto",
    first: "Write a sentence, then give it a name.",
    compared: ["minilm-logistic", "tf-idf"],
  },
};

/** What learners are called in papers, and what each does, for those who read none; of others the service says it. */
export const KNOWN = {
  drawings: ["ProtoNet", "Compares with the middle of each class, in a space that was learned on other drawings."],
  "drawings-maml": ["MAML", "Begins with weights from which a few steps of training on your examples are enough."],
  pictures: ["Meta-Baseline", "Compares with the middle of each class, in a space that was learned on other pictures."],
  sounds: ["Meta-Baseline", "Compares with the middle of each class, in a space that was learned on other words."],
  knn: ["k-NN", "Looks for the example that is most alike as it stands. It has learned nothing beforehand."],
  logistic: ["Logistic regression", "Draws a line between the classes, from your examples alone."],
  "tf-idf": ["TF-IDF", "Counts words, and weighs rare ones more. It has read nothing beforehand."],
  "minilm-logistic": ["MiniLM", "Compares meanings, as a language model has learned them from much text."],
};

/** Whether a learner takes examples of a kind; one without a kind takes whatever is made of numbers. */
export const takes = (learner, kind) =>
  learner.name !== "auto" && (learner.kind ? learner.kind === kind : kind !== "texts");

/** How a task is shown: drawings and pictures are both pictures to the service. */
export function modeOf(task, drafted) {
  if (!task?.kind) return MODES[drafted] ? drafted : "draw";
  if (task.kind !== "pictures") return MODES[task.kind] ? task.kind : "texts";
  if (drafted === "draw" || drafted === "pictures") return drafted;
  const { asked, name } = task.learner;
  return /^drawings/.test(asked === "auto" ? (name ?? "") : asked) ? "draw" : "pictures";
}
