// A handler as a person writes it in JavaScript: a stage for everything that the host has to understand.
//
// It offers what python/app.py offers, under the same names, and `fetch`, for which its engine imports wasi:http.

import { log, param } from "gristmill:handler/host@0.1.0";
import { get } from "gristmill:handler/secrets@0.1.0";

// What a function throws is the error of its `result`: here a case of the variant `failure`.
const fail = (tag, val) => {
  throw { tag, val };
};

const STAGES = {
  echo: (data) => JSON.parse(data),
  ask: () => {
    log("info", "asks for its parameter");
    return JSON.parse(param("size") ?? "null");
  },
  secret: () => (get("NONE") === undefined ? "none" : "one"),
  retry: () => fail("retry", { afterMs: 1, message: "come back" }),
  permanent: () => fail("permanent", "never"),
  skip: () => fail("skip", "not for this one"),
  throw: () => {
    throw new Error("thrown on purpose");
  },
  fetch: async () => {
    try {
      const response = await fetch("https://example.org/");
      return `answered with ${response.status}`;
    } catch (error) {
      return `refused: ${error}`;
    }
  },
};

export const stages = {
  describe: () => Object.keys(STAGES).map((name) => ({ name, description: "", meta: [] })),
  run: async ({ stage, data }) => JSON.stringify(await STAGES[stage](data)),
};
