// Images against qemu-img: conversions of a sparse disk both ways, packed ones, an empty disk of 8 TiB, random reads of
// 4 KiB at depth 32, a linked clone; and the peak memory of ours. Whole processes, start included.
import { rmSync } from "node:fs";
import { join } from "node:path";
import { writeSparseFile } from "./lib/sparse-file.js";
import { peakMemoryInTurns, runProgram, timeInTurns } from "./lib/timing.js";

export const name = "images";

const TIB = 2 ** 40;
const READS = 100_000;

export async function run(context) {
  const { node, xvd, env, dir, say } = context;
  if (!context.have("qemu-img", "sync")) return [];
  const rounds = Math.min(context.rounds, 3);
  const path = (file) => join(dir, file);
  const ours = (...args) => [node, xvd, ...args];
  say("writing 8 GiB with 2 GiB of data");
  writeSparseFile(path("s.dsk"));
  runProgram(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", path("s.dsk"), path("s.qcow2")]);
  runProgram(["qemu-img", "create", "-q", "-f", "qcow2", path("empty.qcow2"), String(8 * TIB)]);
  runProgram(["qemu-img", "create", "-q", "-f", "qcow2", path("huge.qcow2"), String(16 * TIB)]);
  const fresh = (target) => () => {
    rmSync(path(target), { force: true });
    runProgram(["sync"]);
  };
  /** Neither waits for the disk: qemu-img leaves its bytes in the page cache. */
  const pair = (key, source, target, [from, to], { packed = false } = {}) => ({
    [key]: {
      argv: ours("convert", "--no-sync", ...(packed ? ["-c"] : []), path(source), path(target)),
      before: fresh(target),
    },
    [`${key} peer`]: {
      argv: [
        ...["qemu-img", "convert", ...(packed ? ["-c"] : ["-W"]), "-m", "8"],
        ...["-f", from, "-O", to, path(source), path(target)],
      ],
      before: fresh(target),
    },
  });
  say("conversions in turns");
  const ms = timeInTurns(
    {
      ...pair("to", "s.dsk", "t.qcow2", ["raw", "qcow2"]),
      ...pair("from", "s.qcow2", "t.dsk", ["qcow2", "raw"]),
      ...pair("packed", "s.dsk", "p.qcow2", ["raw", "qcow2"], { packed: true }),
      ...pair("empty", "empty.qcow2", "e.qcow2", ["qcow2", "qcow2"]),
    },
    { env, rounds },
  );
  const short = timeInTurns(
    {
      version: { argv: ours("--version") },
      linked: { argv: ours("clone", "--mode", "linked", path("s.dsk"), path("l.qcow2")), before: fresh("l.qcow2") },
    },
    { env, rounds: context.rounds, batch: 3 },
  );
  say("random reads");
  const reads = timeInTurns(
    {
      ours: {
        argv: [node, new URL("./lib/random-reads.js", import.meta.url).pathname, path("s.qcow2"), String(READS)],
      },
      peer: {
        argv: [
          "qemu-img",
          "bench",
          "-f",
          "qcow2",
          "-c",
          String(READS),
          "-d",
          "32",
          "-s",
          "4096",
          "-S",
          "36864",
          path("s.qcow2"),
        ],
      },
    },
    { env, rounds },
  );
  say("peak memory");
  const peaks = peakMemoryInTurns(
    {
      convert: { argv: ours("convert", "--no-sync", path("s.dsk"), path("t.qcow2")), before: fresh("t.qcow2") },
      packed: { argv: ours("convert", "--no-sync", "-c", path("s.dsk"), path("p.qcow2")), before: fresh("p.qcow2") },
      open: { argv: ours("info", path("huge.qcow2")) },
    },
    { env, rounds: 1 },
  );
  const row = (title, key, target) => ({
    name: title,
    ours: ms[key] / 1000,
    peer: ms[`${key} peer`] / 1000,
    peerName: key === "packed" ? "qemu-img convert -c -m 8" : "qemu-img convert -W -m 8",
    unit: "s",
    better: "lower",
    target,
  });
  const alone = (title, figure, unit, target) => ({
    name: title,
    ours: figure,
    peer: null,
    peerName: "",
    unit,
    better: "lower",
    target,
  });
  return [
    row("raw to qcow2, 2 of 8 GiB", "to", 1),
    row("qcow2 to raw, 2 of 8 GiB", "from", 1),
    row("raw to compressed qcow2", "packed", 1 / 0.9),
    alone("an empty qcow2 of 8 TiB converted", ms.empty / 1000, "s", 1),
    {
      name: "4 KiB reads of qcow2, depth 32",
      ours: READS / (reads.ours / 1000),
      peer: READS / (reads.peer / 1000),
      peerName: "qemu-img bench -d 32",
      unit: "IOPS",
      better: "higher",
      target: 1,
    },
    {
      name: "linked clone",
      ours: short.linked,
      peer: short.version,
      peerName: "xvd --version",
      unit: "ms",
      better: "lower",
      target: 1,
      slack: 20,
    },
    alone("peak memory, raw to qcow2", peaks.convert, "MiB", 200),
    alone("peak memory, raw to compressed qcow2", peaks.packed, "MiB", 200),
    alone("peak memory, opening a qcow2 of 16 TiB", peaks.open, "MiB", 120),
  ];
}
