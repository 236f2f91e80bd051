/**
 * The nodes of kernel devices, and the record of them: each node is written down before it is made, so that whoever comes
 * after a killed program finds all of them. A node is removed only while it still is the device that it was made for.
 */
import { DiskError } from "../errors.js";
import { anythingAt, type DeviceNumber, makeBlockNode, removeBlockNode } from "../os/block-nodes.js";
import { readJsonFile, removeJsonFile, writeJsonFile } from "../os/json-file.js";

export interface DeviceNode {
  readonly path: string;
  readonly device: DeviceNumber;
}

export class DeviceNodes {
  readonly #recordFile: string;
  #nodes: DeviceNode[];

  /** Takes over what `recordFile` tells of. Only one of these may use a record at a time. */
  constructor(recordFile: string) {
    this.#recordFile = recordFile;
    this.#nodes = recorded(readJsonFile(recordFile));
  }

  get all(): readonly DeviceNode[] {
    return this.#nodes;
  }

  /** With the owner and permissions of `like`. Throws `DENIED` when there is something at `path` already. */
  make(path: string, device: DeviceNumber, like: string): void {
    if (anythingAt(path)) throw existsAlready(path);
    this.#write([...this.#nodes, { path, device }]);
    try {
      makeBlockNode(path, device, like);
    } catch (error) {
      this.#write(this.#nodes.filter((node) => node.path !== path));
      throw error;
    }
  }

  /** Not an error when it is gone, or something else by now. */
  remove(path: string): void {
    for (const node of this.#nodes) if (node.path === path) removeBlockNode(path, node.device);
    this.#write(this.#nodes.filter((node) => node.path !== path));
  }

  #write(nodes: DeviceNode[]): void {
    if (nodes.length === 0) removeJsonFile(this.#recordFile);
    else writeJsonFile(this.#recordFile, { nodes });
    this.#nodes = nodes;
  }
}

export function existsAlready(path: string): DiskError {
  return new DiskError("DENIED", `Cannot make "${path}": it exists already, and is not replaced`, {
    details: { path },
  });
}

/** What a record says; what is none says nothing. */
function recorded(document: unknown): DeviceNode[] {
  const nodes = (document as { nodes?: unknown } | null)?.nodes;
  if (!Array.isArray(nodes)) return [];
  return nodes.filter(
    (node): node is DeviceNode =>
      typeof node?.path === "string" && node.path.startsWith("/") && /^\d+:\d+$/.test(node.device),
  );
}
