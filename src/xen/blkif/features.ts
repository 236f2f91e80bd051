/**
 * What the halves of a vbd tell each other of their rings, in the names of blkif.h: the backend's offers, the frontend's choice.
 * Encoded and decoded here; a key that is missing means what it meant before there was such a key.
 */
import { WISH_KEYS } from "./keys.js";
import {
  ABIS,
  BLKIF_MAX_SEGMENTS_PER_REQUEST,
  BLKIF_OP,
  DEFAULT_PROTOCOL,
  SEGMENTS_PER_INDIRECT_PAGE,
} from "./layout.js";

/** Reads a key of the other half's directory; null when it is missing. */
export type ReadKey = (name: string) => Promise<string | null>;

/** What a backend can. One that offers nothing of it (0, 1, 0, false) writes no such key. */
export interface BackendOffers {
  readonly maxRingPageOrder: number;
  readonly maxQueues: number;
  readonly maxIndirectSegments: number;
  readonly persistent: boolean;
}

/** Linux's, but for the queues: one vbd is served by one thread here, several queues gain nothing beyond their slots. */
export const BACKEND_OFFERS: BackendOffers = {
  maxRingPageOrder: 4,
  maxQueues: 4,
  maxIndirectSegments: 256,
  persistent: true,
};

/** What a frontend would take. The lesser of both counts. */
export interface FrontendWishes {
  readonly maxRingPageOrder: number;
  readonly maxQueues: number;
  /** Segments of a request; 11 or less: no indirect requests. */
  readonly maxSegments: number;
  readonly persistent: boolean;
  readonly protocol: string;
}

/** What Linux's blkfront negotiates on one vcpu: a ring of one page, requests of up to 128 KiB. */
export const FRONTEND_WISHES: FrontendWishes = {
  maxRingPageOrder: 0,
  maxQueues: 1,
  maxSegments: 32,
  persistent: true,
  protocol: "x86_64-abi",
};

/** The frontend's own directory may say more (`WISH_KEYS`); without a word on queues there is one for each vcpu, as in Linux. */
export async function readWishes(read: ReadKey, vcpus: number): Promise<FrontendWishes> {
  const queues = await offered(read, WISH_KEYS.queues, vcpus);
  const order = await offered(read, WISH_KEYS.ringPageOrder, FRONTEND_WISHES.maxRingPageOrder);
  return { ...FRONTEND_WISHES, maxQueues: Math.max(1, queues), maxRingPageOrder: order };
}

/** One ring as the frontend published it. */
export interface RingKeys {
  readonly ringRefs: readonly number[];
  readonly eventChannel: number;
}

export interface FrontendKeys {
  readonly protocol: string;
  readonly persistent: boolean;
  readonly rings: readonly RingKeys[];
}

/** Keys of state 2 (InitWait). */
export function probeKeys(offers: BackendOffers): Record<string, number> {
  return {
    ...(offers.maxIndirectSegments > 0 ? { "feature-max-indirect-segments": offers.maxIndirectSegments } : {}),
    ...(offers.maxQueues > 1 ? { "multi-queue-max-queues": offers.maxQueues } : {}),
    ...(offers.maxRingPageOrder > 0 ? { "max-ring-page-order": offers.maxRingPageOrder } : {}),
  };
}

/** What another backend may have left, and this one's offers must not be taken for. */
export const BACKEND_OFFER_KEY = /^(feature-max-indirect-segments|multi-queue-max-queues|max-ring-page-order)$/;

/** Queues and ring order that a frontend may use, by the keys of a backend in state 2. */
export async function chooseRings(
  read: ReadKey,
  wishes: FrontendWishes,
): Promise<{ queues: number; pageOrder: number }> {
  return {
    queues: Math.max(1, Math.min(wishes.maxQueues, await offered(read, "multi-queue-max-queues", 1))),
    pageOrder: Math.min(wishes.maxRingPageOrder, await offered(read, "max-ring-page-order", 0)),
  };
}

/** Segments, grants and flushes that a frontend may use, by the keys of a backend in state 4. */
export async function chooseFeatures(read: ReadKey, wishes: FrontendWishes) {
  const offer = await offered(read, "feature-max-indirect-segments", 0);
  const segments = Math.min(wishes.maxSegments, offer, SEGMENTS_PER_INDIRECT_PAGE); // a request has one page of them
  return {
    maxSegments: Math.max(segments, BLKIF_MAX_SEGMENTS_PER_REQUEST),
    persistent: wishes.persistent && (await offered(read, "feature-persistent", 0)) === 1,
    flush: await chooseFlush(read),
  };
}

/** A flush wins over a barrier, as in Linux. */
async function chooseFlush(read: ReadKey) {
  if ((await offered(read, "feature-flush-cache", 0)) === 1) return BLKIF_OP.FLUSH_DISKCACHE;
  return (await offered(read, "feature-barrier", 0)) === 1 ? BLKIF_OP.WRITE_BARRIER : undefined;
}

/** Keys of the frontend's state 3 (Initialised). One queue of one page is published as it was before there were more. */
export function frontendKeys({ protocol, persistent, rings }: FrontendKeys): Record<string, string | number> {
  const keys: Record<string, string | number> = { protocol, "feature-persistent": persistent ? 1 : 0 };
  const pages = rings[0]!.ringRefs.length;
  if (pages > 1) keys["ring-page-order"] = Math.log2(pages);
  if (rings.length > 1) keys["multi-queue-num-queues"] = rings.length;
  for (const [i, { ringRefs, eventChannel }] of rings.entries()) {
    const prefix = rings.length > 1 ? `queue-${i}/` : "";
    if (pages === 1) keys[`${prefix}ring-ref`] = ringRefs[0]!;
    else for (const [page, ref] of ringRefs.entries()) keys[`${prefix}ring-ref${page}`] = ref;
    keys[`${prefix}event-channel`] = eventChannel;
  }
  return keys;
}

/** What an earlier driver may have left in the frontend's directory, and a later one must not be taken for. */
export const FRONTEND_RING_KEY =
  /^(ring-ref\d*|ring-page-order|event-channel|multi-queue-num-queues|queue-\d+|protocol|feature-persistent)$/;

/** The frontend's keys as a backend judges them. Throws an `Error` whose message tells the frontend what was wrong. */
export async function readFrontendKeys(read: ReadKey, offers: BackendOffers): Promise<FrontendKeys> {
  const protocol = (await read("protocol")) ?? DEFAULT_PROTOCOL;
  if (!Object.hasOwn(ABIS, protocol))
    throw new Error(`protocol is ${JSON.stringify(protocol)}, allowed ${Object.keys(ABIS).join(" ")}`);
  const queues = inRange("multi-queue-num-queues", (await read("multi-queue-num-queues")) ?? "1", 1, offers.maxQueues);
  // Its presence decides the naming, not its value: the other names may be left from an earlier driver.
  const order = await read("ring-page-order");
  const names =
    order === null
      ? ["ring-ref"]
      : Array.from(
          { length: 2 ** inRange("ring-page-order", order, 0, offers.maxRingPageOrder) },
          (_, page) => `ring-ref${page}`,
        );
  const rings: RingKeys[] = [];
  for (let i = 0; i < queues; i++) rings.push(await readRing(read, queues > 1 ? `queue-${i}/` : "", names));
  return { protocol, persistent: offers.persistent && (await read("feature-persistent")) === "1", rings };
}

async function readRing(read: ReadKey, prefix: string, names: readonly string[]): Promise<RingKeys> {
  const number = async (name: string) => inRange(prefix + name, await read(prefix + name), 0, 2 ** 32 - 1);
  const ringRefs: number[] = [];
  for (const name of names) ringRefs.push(await number(name));
  return { ringRefs, eventChannel: await number("event-channel") };
}

function inRange(key: string, text: string | null, least: number, most: number): number {
  const value = text !== null && /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= least && value <= most) return value;
  const found = text === null ? "missing" : JSON.stringify(text);
  throw new Error(`${key} is ${found}, allowed ${least === most ? least : `${least}..${most}`}`);
}

/** A number of the backend; anything else counts as missing. */
async function offered(read: ReadKey, key: string, missing: number): Promise<number> {
  const text = await read(key);
  return text !== null && /^\d{1,9}$/.test(text) ? Number(text) : missing;
}
