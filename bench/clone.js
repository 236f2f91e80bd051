// A whole sparse clone, process start included: `xvd clone` against `cp`, which leaves the data in the page cache, and
// against `cp` with `sync FILE`, which ends where ours ends: with the bytes on the disk. `--no-sync` ends where `cp` does.
import { closeSync, ftruncateSync, openSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import { runProgram, timeInTurns } from "./lib/timing.js";

export const name = "clone";

const SIZE = 8 * 2 ** 30;
/** 2 GiB of data: 64 runs of 32 MiB, each followed by 96 MiB of nothing. */
const RUNS = 64;
const RUN = 32 * 2 ** 20;
const STRIDE = SIZE / RUNS;

export async function run(context) {
  const { node, xvd, env, rounds, dir, say } = context;
  if (!context.have("cp", "sync", "sh")) return [];
  const source = join(dir, "source.dsk");
  const target = join(dir, "target.dsk");
  say("writing 8 GiB with 2 GiB of data");
  writeSparseFile(source);
  runProgram(["sync", source]);
  // What the run before has left to write must not be paid by the next one.
  const before = () => {
    rmSync(target, { force: true });
    runProgram(["sync"]);
  };
  const contestants = {
    cp: { argv: ["cp", "--sparse=auto", source, target], before },
    clone: { argv: [node, xvd, "clone", "--mode", "full", source, target], before },
    unsynced: { argv: [node, xvd, "clone", "--mode", "full", "--no-sync", source, target], before },
    synced: { argv: ["sh", "-c", 'cp --sparse=auto "$1" "$2" && sync "$2"', "sh", source, target], before },
    verified: { argv: [node, xvd, "clone", "--mode", "full", "--verify", source, target], before },
  };
  say("cp, xvd clone, xvd clone --no-sync, cp + sync, xvd clone --verify in turns");
  const ms = timeInTurns(contestants, { env, rounds });
  rmSync(target, { force: true });
  const row = (title, ours, peer, peerName, target) => ({
    name: title,
    ours: ms[ours] / 1000,
    peer: ms[peer] / 1000,
    peerName,
    unit: "s",
    better: "lower",
    target,
  });
  return [
    row("sparse clone, 2 of 8 GiB", "clone", "cp", "cp --sparse=auto", 1),
    row("sparse clone, both durable", "clone", "synced", "cp + sync", 1),
    row("sparse clone --no-sync, neither durable", "unsynced", "cp", "cp --sparse=auto", 1),
    row("sparse clone --verify", "verified", "cp", "cp --sparse=auto", 2),
  ];
}

function writeSparseFile(path) {
  const noise = new Uint32Array(2 ** 20);
  let state = 1;
  for (let i = 0; i < noise.length; i++) {
    state ^= state << 13; // xorshift32
    state ^= state >>> 17;
    state ^= state << 5;
    noise[i] = state;
  }
  const fd = openSync(path, "w");
  try {
    ftruncateSync(fd, SIZE);
    for (let run = 0; run < RUNS; run++)
      for (let at = 0; at < RUN; at += noise.byteLength) writeSync(fd, noise, 0, noise.byteLength, run * STRIDE + at);
  } finally {
    closeSync(fd);
  }
}
