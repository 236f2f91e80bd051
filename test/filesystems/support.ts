/** Images made by the system's tools, and what blkid says about them. */
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { truncateSync, writeFileSync } from "node:fs";
import { openFileDevice } from "#src/block/file.js";
import { identifyFilesystem, newFilesystemId } from "#src/filesystems/identify.js";

/** Runs a peer (found in PATH by `havePeer`) and returns what it printed. Throws when it fails. */
export function run(program: string, ...args: string[]): string {
  return execFileSync(program, args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}

/** A sparse file of `size` bytes, formatted by `command`, whose last argument it becomes. */
export function makeImage(path: string, size: number, ...[program, ...args]: [string, ...string[]]): string {
  writeFileSync(path, "");
  truncateSync(path, size);
  run(program, ...args, path);
  return path;
}

/** blkid's own reading, by probing: TYPE, UUID, LABEL, VERSION ... */
export function blkid(path: string): Record<string, string> {
  const lines = run("blkid", "-p", "-o", "export", path).trim().split("\n");
  // blkid escapes blanks, and prints bytes above 0x7f as M-x: labels with those are compared elsewhere.
  return Object.fromEntries(
    lines.map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1).replaceAll("\\ ", " ")]),
  );
}

export async function identify(path: string) {
  const device = await openFileDevice(path);
  try {
    return await identifyFilesystem(device);
  } finally {
    await device.close();
  }
}

export async function renew(path: string) {
  const device = await openFileDevice(path, { writable: true });
  try {
    return await newFilesystemId(device, randomBytes);
  } finally {
    await device.close();
  }
}
