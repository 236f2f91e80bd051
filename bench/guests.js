// Eight guests with a disk each, beside one guest alone: cached 4 KiB random reads, 32 under way in each guest.
import { join } from "node:path";
import { writeDataFile } from "./lib/data-file.js";
import { median } from "./lib/median.js";
import { startRings } from "./lib/ring.js";

export const name = "guests";

const GUESTS = 8;
/** Of all disks together: what one guest reads in, eight read in as well. */
const DATA = 512 * 2 ** 20;
const SECONDS = 2;
/** Each thread compiles its own code: with eight guests on a few cores that takes as many times as long. */
const WARM_UP = 4;
const WORKLOAD = { rw: "randread", blockSize: 4096, depth: 32 };

export async function run(context) {
  const files = Array.from({ length: GUESTS }, (_, i) => join(context.dir, `data${i}.dsk`));
  for (const [i, file] of files.entries()) writeDataFile(file, DATA / GUESTS, i + 1);
  const whole = join(context.dir, "whole.dsk");
  writeDataFile(whole, DATA);
  const samples = { one: [], all: [] };
  for (let round = 0; round < context.rounds; round++) {
    samples.one.push(await measured([whole]));
    samples.all.push(await measured(files));
    context.say(`one guest ${Math.round(samples.one.at(-1))}, ${GUESTS} guests ${Math.round(samples.all.at(-1))} IOPS`);
  }
  const [one, all] = [median(samples.one), median(samples.all)];
  const title = `${GUESTS} guests with a disk each, 4 KiB random read, depth 32, in all`;
  return [
    { name: title, ours: all, peer: one, peerName: "xvdkit, one guest", unit: "IOPS", better: "higher", target: 1 },
  ];
}

async function measured(files) {
  const rings = await startRings(files);
  try {
    await rings.measure(WORKLOAD, WARM_UP); // compiled code, and buffers that are there
    return (await rings.measure(WORKLOAD, SECONDS)).iops;
  } finally {
    await rings.stop();
  }
}
