// A whole sparse clone, process start included: `xvd clone` against `cp`, which leaves the data in the page cache, and
// against `cp` with `sync FILE`, which ends where ours ends: with the bytes on the disk. `--no-sync` ends where `cp` does.
import { rmSync } from "node:fs";
import { join } from "node:path";
import { writeSparseFile } from "./lib/sparse-file.js";
import { runProgram, timeInTurns } from "./lib/timing.js";

export const name = "clone";

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
