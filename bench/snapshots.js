// A snapshot of a large volume: what it takes beyond starting the command.
import { rmSync } from "node:fs";
import { join } from "node:path";
import { runProgram, timeInTurns } from "./lib/timing.js";

export const name = "snapshots";

const TIB = 2 ** 40;

export async function run(context) {
  const { node, xvd, rounds, say } = context;
  const dir = context.dirForFileOf(2 * TIB) ?? context.dir;
  const env = { ...context.env, XVD_HOME: join(dir, "lvm-home") };
  const disk = join(dir, "large.dsk");
  const ours = (...args) => runProgram([node, xvd, ...args], { env });
  say("lvcreate -s of a volume of 1 TiB against xvd --version");
  ours("create", disk, String(2 * TIB));
  ours("vgcreate", "bench", disk);
  ours("lvcreate", "-L", "1T", "-n", "large", "bench");
  const ms = timeInTurns(
    {
      ours: { argv: [node, xvd, "lvcreate", "-s", "-L", "1G", "bench/large"] },
      peer: { argv: [node, xvd, "--version"] },
    },
    { env, rounds, batch: 5 },
  );
  rmSync(disk);
  return [
    {
      name: "snapshot of a 1 TiB volume",
      ours: ms.ours,
      peer: ms.peer,
      peerName: "xvd --version",
      unit: "ms",
      better: "lower",
      target: 1,
      slack: 50,
    },
  ];
}
