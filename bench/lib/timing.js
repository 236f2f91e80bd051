// Whole processes, measured in turns: what disturbs the machine disturbs all contestants alike.
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { median } from "./median.js";

const PEAK_REPORTER = fileURLToPath(new URL("report-peak.js", import.meta.url));

/**
 * @typedef {object} Contestant
 * @property {string[]} argv
 * @property {() => void} [before]  puts the world in order before each run; not timed
 */

/**
 * Runs every contestant in turns and returns the median milliseconds of each, by its key.
 * One round's sample is the mean of `batch` runs: short processes need more than one to be told apart.
 * @param {Record<string, Contestant>} contestants
 */
export function timeInTurns(contestants, { rounds = 5, batch = 1, env = process.env } = {}) {
  const samples = Object.fromEntries(Object.keys(contestants).map((key) => [key, []]));
  for (const { argv, before } of Object.values(contestants)) {
    before?.();
    runProgram(argv, { env }); // once untimed: the files it reads are cached from here on
  }
  for (let round = 0; round < rounds; round++) {
    const sums = Object.fromEntries(Object.keys(contestants).map((key) => [key, 0]));
    for (let run = 0; run < batch; run++)
      for (const [key, { argv, before }] of Object.entries(contestants)) {
        before?.();
        sums[key] += timed(argv, env);
      }
    for (const key of Object.keys(contestants)) samples[key].push(sums[key] / batch);
  }
  return Object.fromEntries(Object.entries(samples).map(([key, values]) => [key, median(values)]));
}

/** Median peak memory (resident set, MiB) of each contestant; all must be `[node, script, ...]`. */
export function peakMemoryInTurns(contestants, { rounds = 5, env = process.env } = {}) {
  const samples = Object.fromEntries(Object.keys(contestants).map((key) => [key, []]));
  for (let round = 0; round < rounds; round++)
    for (const [key, { argv, before }] of Object.entries(contestants)) {
      before?.();
      const [node, ...rest] = argv;
      const run = runProgram([node, "--import", PEAK_REPORTER, ...rest], {
        env,
        stdio: ["ignore", "ignore", "pipe", "pipe"],
      });
      samples[key].push(Number(run.output[3]) / 1024);
    }
  return Object.fromEntries(Object.entries(samples).map(([key, values]) => [key, median(values)]));
}

/** Runs a program to its end; throws with its stderr when it fails. */
export function runProgram(
  [program, ...args],
  { env = process.env, cwd, stdio = ["ignore", "ignore", "pipe"], allowFailure = false } = {},
) {
  const result = spawnSync(program, args, { env, cwd, stdio, encoding: "utf8" });
  if (result.error && !allowFailure) throw result.error;
  if (result.status !== 0 && !allowFailure)
    throw new Error(`${[program, ...args].join(" ")} ended with ${result.status ?? result.signal}: ${result.stderr}`);
  return result;
}

function timed(argv, env) {
  const begin = process.hrtime.bigint();
  runProgram(argv, { env });
  return Number(process.hrtime.bigint() - begin) / 1e6;
}
