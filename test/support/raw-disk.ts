/** An empty raw disk in a folder. */
import { closeSync, ftruncateSync, openSync } from "node:fs";
import { join } from "node:path";

export function createRawDisk(dir: string, name: string, size: number): string {
  const path = join(dir, name);
  const fd = openSync(path, "w");
  ftruncateSync(fd, size);
  closeSync(fd);
  return path;
}
