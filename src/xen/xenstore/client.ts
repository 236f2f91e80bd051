/** A xenstore client over any byte transport: of this store, or of a real Dom0's. */
import { DiskError } from "../../errors.js";
import { RequestChannel } from "./request-channel.js";
import type { Transport } from "./transport.js";
import { bytesToText, type MessageName } from "./wire.js";
import { xenstoreErrno, xenstoreError } from "./xenstore-error.js";

/** Names a transaction of the client that handed it out, until its body is done. */
export interface StoreTransaction {
  readonly id: number;
}

/** Called with the path that changed. It must read again what it wants to know: events are merged, repeated, and may come for nothing. */
export type WatchCallback = (path: string) => void;

// Each retry means that somebody else got ahead; a body that always loses to itself should end.
const TRANSACTION_ATTEMPTS = 64;
const LISTING_ATTEMPTS = 16;
const LISTING_MAX = 16 << 20; // bytes; a store that lists more is broken

/**
 * Every method rejects with a `DiskError` that carries the store's error name in `details.errno`, or `IO` when the connection is gone.
 * Paths may be relative to the client's home.
 */
export class XenstoreClient {
  readonly #channel: RequestChannel;
  readonly #watches = new Map<string, WatchCallback>(); // by the token on the wire
  #lastWatch = 0;

  /** The transport is the client's from now on. */
  constructor(transport: Transport) {
    this.#channel = new RequestChannel(transport, (payload) => this.#dispatch(payload));
  }

  async readBytes(path: string, tx?: StoreTransaction): Promise<Uint8Array> {
    return this.#request("READ", `read xenstore node ${path}`, [path], tx);
  }

  async read(path: string, tx?: StoreTransaction): Promise<string> {
    return Buffer.from(await this.readBytes(path, tx)).toString("utf8");
  }

  /** Null when there is no such node. */
  readOrNull(path: string, tx?: StoreTransaction): Promise<string | null> {
    return orNull(this.read(path, tx));
  }

  /** The values of `dir/key` for every key, null for a missing one. One snapshot only inside a transaction. */
  async readMany<K extends string>(
    dir: string,
    keys: readonly K[],
    tx?: StoreTransaction,
  ): Promise<Record<K, string | null>> {
    const values = await Promise.all(keys.map((key) => this.readOrNull(`${dir}/${key}`, tx)));
    return Object.fromEntries(keys.map((key, i) => [key, values[i]!])) as Record<K, string | null>;
  }

  /** Creates what is missing of the path. */
  async write(path: string, value: string | Uint8Array, tx?: StoreTransaction): Promise<void> {
    const bytes = typeof value === "string" ? Buffer.from(value, "utf8") : value;
    await this.#request("WRITE", `write xenstore node ${path}`, [path], tx, bytes);
  }

  /** An existing node stays as it is. */
  async mkdir(path: string, tx?: StoreTransaction): Promise<void> {
    await this.#request("MKDIR", `create xenstore node ${path}`, [path], tx);
  }

  /** Removes the node and everything below it. No error when it is missing and its parent exists. */
  async rm(path: string, tx?: StoreTransaction): Promise<void> {
    await this.#request("RM", `remove xenstore node ${path}`, [path], tx);
  }

  /** The names below a node, however many. */
  async directory(path: string, tx?: StoreTransaction): Promise<string[]> {
    try {
      return splitNames(await this.#request("DIRECTORY", `list xenstore node ${path}`, [path], tx));
    } catch (error) {
      if (xenstoreErrno(error) !== "E2BIG") throw error;
      return this.#directoryInParts(path, tx);
    }
  }

  /** `n0`, `r5`: the owner and the default first. */
  async getPerms(path: string, tx?: StoreTransaction): Promise<string[]> {
    return splitNames(await this.#request("GET_PERMS", `read permissions of xenstore node ${path}`, [path], tx));
  }

  async setPerms(path: string, permissions: readonly string[], tx?: StoreTransaction): Promise<void> {
    await this.#request("SET_PERMS", `set permissions of xenstore node ${path}`, [path, ...permissions], tx);
  }

  /**
   * Calls `callback` once soon, and after each change of the node or anything below it, until the returned function is called.
   * `token` is a name to be seen in traces and need not be unique. The callback must not throw.
   */
  async watch(path: string, token: string, callback: WatchCallback): Promise<() => Promise<void>> {
    // Numbered, since an event tells its token and not its watch: two watches may overlap.
    const wireToken = `${++this.#lastWatch}:${token}`;
    this.#watches.set(wireToken, callback); // before the request: the first event follows the reply at once
    try {
      await this.#request("WATCH", `watch xenstore path ${path}`, [path, wireToken]);
    } catch (error) {
      this.#watches.delete(wireToken);
      throw error;
    }
    return async () => {
      if (!this.#watches.delete(wireToken) || this.#channel.closed) return;
      await this.#request("UNWATCH", `stop watching xenstore path ${path}`, [path, wireToken]);
    };
  }

  /**
   * Runs `body` so that all of it happens at once or not at all: again from the start when somebody changed what it had read,
   * up to `attempts` times (then DENIED with EAGAIN). A body that throws leaves the store as it was.
   */
  async transaction<T>(body: (tx: StoreTransaction) => Promise<T>, attempts = TRANSACTION_ATTEMPTS): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      const tx = await this.#beginTransaction();
      let result: T;
      try {
        result = await body(tx);
      } catch (error) {
        await this.#endTransaction(tx, "F").catch(() => {}); // the body's own failure is the one to tell
        throw error;
      }
      try {
        await this.#endTransaction(tx, "T");
        return result;
      } catch (error) {
        if (xenstoreErrno(error) !== "EAGAIN" || attempt >= attempts) throw error;
      }
    }
  }

  async getDomainPath(domid: number): Promise<string> {
    const payload = await this.#request("GET_DOMAIN_PATH", `find home of domain ${domid}`, [String(domid)]);
    return splitNames(payload)[0] ?? "";
  }

  /** Tells the store where the domain's ring page and event channel are; it may connect from now on. */
  async introduce(domid: number, frame: number, port: number): Promise<void> {
    await this.#request("INTRODUCE", `introduce domain ${domid}`, [String(domid), String(frame), String(port)]);
  }

  async release(domid: number): Promise<void> {
    await this.#request("RELEASE", `release domain ${domid}`, [String(domid)]);
  }

  async resume(domid: number): Promise<void> {
    await this.#request("RESUME", `resume domain ${domid}`, [String(domid)]);
  }

  async setTarget(domid: number, target: number): Promise<void> {
    await this.#request("SET_TARGET", `set target of domain ${domid}`, [String(domid), String(target)]);
  }

  async isDomainIntroduced(domid: number): Promise<boolean> {
    const payload = await this.#request("IS_DOMAIN_INTRODUCED", `look for domain ${domid}`, [String(domid)]);
    return splitNames(payload)[0] === "T";
  }

  /** Drops all watches and transactions of this client, its predecessor's on the same connection included. */
  async resetWatches(): Promise<void> {
    await this.#request("RESET_WATCHES", "reset xenstore watches", [""]);
    this.#watches.clear();
  }

  /** Idempotent. What still waits for a reply is rejected. */
  close(): void {
    this.#watches.clear();
    this.#channel.close();
  }

  async #beginTransaction(): Promise<StoreTransaction> {
    const text = splitNames(await this.#request("TRANSACTION_START", "start xenstore transaction", [""]))[0] ?? "";
    if (!/^[1-9]\d{0,9}$/.test(text))
      throw new DiskError(
        "PROTOCOL",
        `Cannot start xenstore transaction: its number is ${JSON.stringify(text)}, allowed 1..2^32-1`,
      );
    return { id: Number(text) };
  }

  async #endTransaction(tx: StoreTransaction, verdict: "T" | "F"): Promise<void> {
    await this.#request("TRANSACTION_END", "commit xenstore transaction", [verdict], tx);
  }

  async #directoryInParts(path: string, tx?: StoreTransaction): Promise<string[]> {
    for (let attempt = 1; attempt <= LISTING_ATTEMPTS; attempt++) {
      const names = await this.#listAtOneGeneration(path, tx);
      if (names) return names;
    }
    throw xenstoreError("EAGAIN", `list xenstore node ${path}`);
  }

  /** Undefined when the node changed between two parts. */
  async #listAtOneGeneration(path: string, tx?: StoreTransaction): Promise<string[] | undefined> {
    const names: string[] = [];
    let generation: string | undefined;
    for (let offset = 0; ; ) {
      const what = `list xenstore node ${path}`;
      const [found, ...part] = bytesToText(
        await this.#request("DIRECTORY_PART", what, [path, String(offset)], tx),
      ).split("\0");
      generation ??= found;
      if (found !== generation) return undefined;
      part.pop(); // behind the last NUL
      const isLast = part.at(-1) === "";
      if (isLast) part.pop();
      names.push(...part);
      if (isLast) return names;
      if (part.length === 0 || offset > LISTING_MAX)
        throw new DiskError("PROTOCOL", `Cannot ${what}: the listing has no end (byte ${offset})`);
      offset += part.join("\0").length + 1;
    }
  }

  #request(
    name: MessageName,
    what: string,
    strings: readonly string[],
    tx?: StoreTransaction,
    value?: Uint8Array,
  ): Promise<Uint8Array> {
    return this.#channel.request({ name, what, strings, value, txId: tx?.id });
  }

  #dispatch(payload: Uint8Array): void {
    const [path = "", token = ""] = splitNames(payload);
    this.#watches.get(token)?.(path);
  }
}

/** Strings that each end with NUL. */
function splitNames(payload: Uint8Array): string[] {
  const names = Buffer.from(payload).toString("utf8").split("\0");
  names.pop();
  return names;
}

async function orNull<T>(promise: Promise<T>): Promise<T | null> {
  try {
    return await promise;
  } catch (error) {
    if (xenstoreErrno(error) === "ENOENT") return null;
    throw error;
  }
}
