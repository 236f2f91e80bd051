// What a disk costs the daemon: from the request to Connected, and memory with 200 of them in eight guests.
import { closeSync, mkdirSync, openSync, readFileSync, rmSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { Host } from "../dist/dom0/host.js";
import { median } from "./lib/median.js";

export const name = "attach";

const DISKS = 200;
const GUESTS = 8;

export async function run(context) {
  const before = residentMiB();
  const host = await Host.start({
    paths: { run: join(context.dir, "r"), home: join(context.dir, "h") },
    ensureDir: (path) => mkdirSync(path, { recursive: true }),
    removeDir: (path) => rmSync(path, { recursive: true, force: true }),
    onError: (message) => context.say(message),
    onChange() {},
  });
  const times = [];
  try {
    for (let guest = 0; guest < GUESTS; guest++) await host.createDomain(`guest${guest}`);
    for (let i = 0; i < DISKS; i++) {
      const disk = join(context.dir, `disk${i}.dsk`);
      closeSync(openSync(disk, "w"));
      truncateSync(disk, 2 ** 30);
      const begin = performance.now();
      await host.attach({ disk, domain: `guest${i % GUESTS}` });
      times.push(performance.now() - begin);
    }
    const common = { peer: null, peerName: "", better: "lower" };
    return [
      { ...common, name: "attach until Connected, in the daemon", ours: median(times), unit: "ms", target: 60 },
      { ...common, name: "the first attach, which starts a thread", ours: times[0], unit: "ms", target: null },
      {
        ...common,
        name: `memory of a daemon with ${DISKS} disks in ${GUESTS} guests`,
        ours: residentMiB(),
        unit: "MiB",
        target: 1536,
        note: `${Math.round(before)} MiB before the daemon began`,
      },
    ];
  } finally {
    await host.stop();
  }
}

/** All threads of this process; the pages of guests count when they were used. */
function residentMiB() {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync("/proc/self/status", "utf8"))[1]) / 1024;
}
