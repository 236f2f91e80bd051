/**
 * The rules of xenbus (Linux xenbus_client.c in behaviour): a driver writes its `state` only while the node exists,
 * watchers re-read what they were told about, and all events of one device are handled one after the other,
 * with at most one run waiting (XSA-349: a guest that toggles its state grows no queue).
 */
import { stateName, XENBUS_STATE, type XenbusState } from "./blkif/keys.js";
import type { StoreTransaction, XenstoreClient } from "./xenstore/client.js";

/** The number in `<dir>/state`; Unknown when it is missing or no state. */
export async function readState(store: XenstoreClient, dir: string, tx?: StoreTransaction): Promise<XenbusState> {
  const text = await store.readOrNull(`${dir}/state`, tx);
  const state = text !== null && /^\d$/.test(text) ? Number(text) : XENBUS_STATE.Unknown;
  return (state <= XENBUS_STATE.Reconfigured ? state : XENBUS_STATE.Unknown) as XenbusState;
}

/**
 * Writes `state`, with `keys` before it in the same transaction; entries that match `stale` are removed first.
 * A removed directory is not written into life again.
 */
export async function switchState(
  store: XenstoreClient,
  dir: string,
  state: XenbusState,
  keys: Readonly<Record<string, string | number>> = {},
  stale?: RegExp,
): Promise<void> {
  await store.transaction(async (tx) => {
    const present = await store.readOrNull(`${dir}/state`, tx);
    if (present === null) return;
    if (stale)
      for (const name of await store.directory(dir, tx)) if (stale.test(name)) await store.rm(`${dir}/${name}`, tx);
    for (const [key, value] of Object.entries(keys)) await store.write(`${dir}/${key}`, String(value), tx);
    if (present !== String(state)) await store.write(`${dir}/state`, String(state), tx);
  });
}

/**
 * Writes `keys` and state `to`, also when it is the same, so that the other end looks at them. Nothing when the state is not
 * `from` any more: the directory may have been removed and made anew.
 */
export async function switchStateFrom(
  store: XenstoreClient,
  dir: string,
  from: XenbusState,
  to: XenbusState,
  keys: Readonly<Record<string, string | number>> = {},
): Promise<void> {
  await store.transaction(async (tx) => {
    if ((await readState(store, dir, tx)) !== from) return;
    for (const [key, value] of Object.entries(keys)) await store.write(`${dir}/${key}`, String(value), tx);
    await store.write(`${dir}/state`, String(to), tx);
  });
}

/** Tells the other end why, as xenbus_dev_fatal does: `error/<path>/error` in the writer's home, then Closing, or Closed when nothing is left to wait for. */
export async function deviceFatal(
  store: XenstoreClient,
  home: string,
  dir: string,
  reason: string,
  state: XenbusState = XENBUS_STATE.Closing,
): Promise<void> {
  const path = `${home}/error/${dir.startsWith(`${home}/`) ? dir.slice(home.length + 1) : dir.slice(1)}/error`;
  await store.write(path, `22 ${reason}`).catch(() => {}); // a full or closed store must not hide the failure itself
  await switchState(store, dir, state);
}

/** Makes the watch token of each wait its own: several may wait for one node. */
let waits = 0;

/** Waits until `<dir>/state` is one of `wanted`, at most `timeoutMs`. Returns the state seen last. */
export async function waitForState(
  store: XenstoreClient,
  dir: string,
  wanted: readonly XenbusState[],
  timeoutMs: number,
): Promise<XenbusState> {
  let finish!: (state: XenbusState) => void;
  const done = new Promise<XenbusState>((resolve) => {
    finish = resolve;
  });
  let last: XenbusState = XENBUS_STATE.Unknown;
  const look = async () => {
    last = await readState(store, dir);
    if (wanted.includes(last)) finish(last);
  };
  const timer = setTimeout(() => finish(last), timeoutMs);
  const unwatch = await store.watch(`${dir}/state`, `wait-${++waits}`, () => void look().catch(() => finish(last)));
  try {
    await look();
    return await done;
  } finally {
    clearTimeout(timer);
    await unwatch();
  }
}

/** Waits until the node's value (null: it is gone) is as wanted, at most `timeoutMs`. Whether it came to that. */
export async function waitForNode(
  store: XenstoreClient,
  path: string,
  isWanted: (value: string | null) => boolean,
  timeoutMs: number,
): Promise<boolean> {
  let finish!: (met: boolean) => void;
  const done = new Promise<boolean>((resolve) => {
    finish = resolve;
  });
  const look = async () => {
    if (isWanted(await store.readOrNull(path))) finish(true);
  };
  const timer = setTimeout(() => finish(false), timeoutMs);
  const unwatch = await store.watch(path, `wait-${++waits}`, () => void look().catch(() => finish(false)));
  try {
    return await done;
  } finally {
    clearTimeout(timer);
    await unwatch();
  }
}

/** Runs `task` for a key, never twice at once, and never more than one run ahead. */
export class Coalescer {
  readonly #running = new Map<string, { again: boolean }>();
  readonly #task: (key: string) => Promise<void>;
  readonly #onError: (key: string, error: unknown) => void;

  constructor(task: (key: string) => Promise<void>, onError: (key: string, error: unknown) => void) {
    this.#task = task;
    this.#onError = onError;
  }

  schedule(key: string): void {
    const running = this.#running.get(key);
    if (running) {
      running.again = true;
      return;
    }
    void this.#run(key);
  }

  async #run(key: string): Promise<void> {
    const entry = { again: true };
    this.#running.set(key, entry);
    while (entry.again) {
      entry.again = false;
      try {
        await this.#task(key);
      } catch (error) {
        this.#onError(key, error);
      }
    }
    this.#running.delete(key);
  }
}

/** `frontend 3 (Initialised), backend 2 (InitWait)`: what a failed attach says. */
export function describeStates(frontend: XenbusState, backend: XenbusState): string {
  return `the frontend stopped in state ${frontend} (${stateName(frontend)}), the backend in state ${backend} (${stateName(backend)})`;
}
