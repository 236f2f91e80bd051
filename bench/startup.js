// What a user waits for before anything happens, and whether a huge disk costs more than a small one.
import { rmSync } from "node:fs";
import { join } from "node:path";
import { peakMemoryInTurns, runProgram, timeInTurns } from "./lib/timing.js";

export const name = "startup";

const SMALL = 16 * 2 ** 20;
const HUGE = 16 * 2 ** 40;

export async function run(context) {
  const dir = context.dirForFileOf(HUGE);
  const huge = dir ? HUGE : 8 * 2 ** 40;
  const disks = { dir: dir ?? context.dir, huge };
  if (!dir) context.say("no file system here takes a file of 16 TiB: measured with 8 TiB");
  return [...versionRows(context), ...listRows(context, disks), ...sizeRows(context, disks)];
}

function versionRows({ node, xvd, env, rounds, say }) {
  say("xvd --version against node -e 0");
  const ms = timeInTurns(
    { ours: { argv: [node, xvd, "--version"] }, peer: { argv: [node, "-e", "0"] } },
    { env, rounds, batch: 10 },
  );
  return [
    {
      name: "xvd --version",
      ours: ms.ours,
      peer: ms.peer,
      peerName: "node -e 0",
      unit: "ms",
      better: "lower",
      target: 1.5,
    },
  ];
}

function listRows(context, { dir, huge }) {
  const { node, xvd, env, rounds, say } = context;
  say(`xvd part list of ${terabytes(huge)} against xvd --version`);
  const disk = join(dir, "listed.dsk");
  partitionedDisk(context, disk, huge);
  return [
    ["part list", []],
    ["part list --json", ["--json"]],
  ].map(([verb, options]) => {
    const ms = timeInTurns(
      {
        ours: { argv: [node, xvd, "part", "list", disk, ...options] },
        peer: { argv: [node, xvd, "--version"] },
      },
      { env, rounds, batch: 10 },
    );
    return {
      name: `${verb}, ${terabytes(huge)}, 15 partitions`,
      ours: ms.ours,
      peer: ms.peer,
      peerName: "xvd --version",
      unit: "ms",
      better: "lower",
      target: 1,
      slack: 10,
    };
  });
}

function sizeRows(context, { dir, huge }) {
  const { node, xvd, env, rounds, say } = context;
  const files = {
    ours: { path: join(dir, "huge.dsk"), size: huge },
    peer: { path: join(dir, "small.dsk"), size: SMALL },
  };
  const each = (argv, before) =>
    Object.fromEntries(
      Object.entries(files).map(([key, file]) => [
        key,
        { argv: [node, xvd, ...argv(file)], before: before && (() => before(file)) },
      ]),
    );
  const create = each(
    ({ path, size }) => ["create", path, String(size)],
    ({ path }) => rmSync(path, { force: true }),
  );
  const open = each(({ path }) => ["info", path]);
  const rows = [];
  for (const [verb, contestants] of [
    ["create", create],
    ["info", open],
  ]) {
    say(`xvd ${verb} of ${terabytes(huge)} against 16 MiB`);
    const ms = timeInTurns(contestants, { env, rounds, batch: 5 });
    const mib = peakMemoryInTurns(contestants, { env, rounds });
    const common = { peerName: "the same, 16 MiB", better: "lower", target: 1.1 };
    rows.push({ name: `${verb}, ${terabytes(huge)}`, ours: ms.ours, peer: ms.peer, unit: "ms", ...common });
    rows.push({
      name: `${verb}, ${terabytes(huge)}, peak memory`,
      ours: mib.ours,
      peer: mib.peer,
      unit: "MiB",
      ...common,
    });
  }
  return rows;
}

/** A GPT with fifteen partitions that end at the end of the disk: a list must look at both copies. */
function partitionedDisk({ node, xvd, env }, disk, size) {
  runProgram([node, xvd, "create", disk, String(size)], { env });
  runProgram([node, xvd, "part", "init", disk, "gpt"], { env });
  for (let number = 1; number < 15; number++) runProgram([node, xvd, "part", "add", disk, "--size", "1G"], { env });
  runProgram([node, xvd, "part", "add", disk, "--size", "100%FREE"], { env });
}

function terabytes(bytes) {
  return `${bytes / 2 ** 40} TiB`;
}
