/** Volume groups on small disks in a world of their own, for tests of the commands. */
import { truncateSync, writeFileSync } from "node:fs";
import type { XvdWorld } from "../support/xvd.js";

export function disk(world: XvdWorld, name: string, size = 64 << 20): string {
  writeFileSync(world.path(name), "");
  truncateSync(world.path(name), size);
  return name;
}

/** Two disks and a partition as physical volumes of vg0. */
export async function group(world: XvdWorld, ...options: string[]): Promise<void> {
  for (const name of ["p0.dsk", "p1.dsk", "p2.dsk"]) disk(world, name);
  await world.xvd("part", "init", "p2.dsk", "gpt");
  await world.xvd("part", "add", "p2.dsk", "--type", "lvm");
  await world.xvd("vgcreate", ...options, "vg0", "p0.dsk", "p1.dsk", "p2.dsk#p1");
}

/** A report's rows. */
export async function rows(world: XvdWorld, ...args: string[]): Promise<Record<string, string>[]> {
  const report = JSON.parse(await world.xvd(...args, "--reportformat", "json")).report[0];
  return report[Object.keys(report)[0]!];
}

export const names = async (world: XvdWorld) => (await rows(world, "lvs")).map(({ lv_name }) => lv_name);
