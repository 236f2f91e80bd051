/** Who watches what: all watches of all clients, found by the path that changed. */
import type { Change } from "./node-view.js";
import { parentOf } from "./path.js";

export interface Watch<Client> {
  readonly client: Client;
  /** Absolute, or a special name. */
  readonly path: string;
  readonly token: string;
  /** Characters of an event's path to leave out: the home directory's, for a watch set by a relative path. */
  readonly prefix: number;
  /** How many levels below `path` it hears of. */
  readonly depth: number;
  /** Events of one change go out in this order. */
  readonly sequence: number;
}

/** What a watch costs beside its path and token: about that of the maps' entries. */
const WATCH_SIZE = 64; // bytes

/** Bytes that a watch counts against its client's memory quota. */
export function watchSize({ path, token }: Pick<Watch<unknown>, "path" | "token">): number {
  return WATCH_SIZE + path.length + token.length;
}

export class Watches<Client> {
  readonly #byPath = new Map<string, Set<Watch<Client>>>();
  #sequence = 0;

  add(added: Omit<Watch<Client>, "sequence">): Watch<Client> {
    const watch = { ...added, sequence: this.#sequence++ };
    const watches = this.#byPath.get(watch.path);
    if (watches) watches.add(watch);
    else this.#byPath.set(watch.path, new Set([watch]));
    return watch;
  }

  remove(watch: Watch<Client>): void {
    const watches = this.#byPath.get(watch.path);
    watches?.delete(watch);
    if (watches?.size === 0) this.#byPath.delete(watch.path);
  }

  get size(): number {
    let size = 0;
    for (const watches of this.#byPath.values()) size += watches.size;
    return size;
  }

  /** The watches that a change concerns, in the order in which they were set. Permissions are the caller's matter. */
  concernedBy({ path, exact }: Change): Watch<Client>[] {
    if (exact) return [...(this.#byPath.get(path) ?? [])];
    const found: Watch<Client>[] = [];
    let level = 0;
    for (let at: string | undefined = path; at !== undefined; at = parentOf(at), level++)
      for (const watch of this.#byPath.get(at) ?? []) if (level <= watch.depth) found.push(watch);
    return found.sort((a, b) => a.sequence - b.sequence);
  }
}
