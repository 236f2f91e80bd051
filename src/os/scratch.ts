/** A scratch folder, and finding real files to fill disks with. */
import { mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface ScratchFolder {
  readonly path: string;
  remove(): void;
}

/** An empty folder of its own below the system's temporary one. */
export function scratchFolder(prefix: string): ScratchFolder {
  const path = mkdtempSync(join(tmpdir(), prefix));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

export interface TreeSize {
  readonly files: number;
  readonly bytes: number;
}

/** Counts the regular files of a tree, links not followed, up to `limit` of them; null when it cannot be read. */
export function treeSize(path: string, limit: number): TreeSize | null {
  try {
    const files = readdirSync(path, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
    if (files.length > limit) return null;
    const bytes = files.reduce((sum, file) => sum + statSync(join(file.parentPath, file.name)).size, 0);
    return { files: files.length, bytes };
  } catch {
    return null;
  }
}
