/** What a killed program left in the kernel: nodes, and loop devices over files that nobody serves any more. */
import { basename } from "node:path";
import { loopFiles } from "../os/block-nodes.js";
import { DeviceNodes } from "./device-nodes.js";
import { LoopDevice } from "./loop-device.js";

/** The name of a served file: by it the loop device over it is known as one of `owner`'s. */
export function servedFileName(owner: string, device: string): string {
  return `xvdkit-${owner}-${device}`;
}

/**
 * Removes the nodes that `recordFile` tells of, and clears the loop devices of `owner`, which must not be running. One that
 * is still in use, mounted for instance, is cleared by the kernel as soon as its last user closes it. Gives clauses about
 * what was found.
 */
export async function removeLeftovers(owner: string, recordFile: string): Promise<string[]> {
  const told: string[] = [];
  const nodes = new DeviceNodes(recordFile);
  for (const { path } of [...nodes.all]) {
    nodes.remove(path);
    told.push(`removed ${path}`);
  }
  for (const { name, file } of loopFiles()) {
    if (!basename(file).startsWith(servedFileName(owner, ""))) continue;
    const loop = new LoopDevice(name);
    await loop.clear();
    told.push(loop.cleared ? `cleared ${loop.path}` : `${loop.path} is still in use and goes with its last user`);
  }
  return told;
}
