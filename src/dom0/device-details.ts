/** All that can be seen of one device: its journal, the keys of both directories, and what was agreed on. A guest's words are cut short. */
import { BACKEND_OFFER_KEY } from "../xen/blkif/features.js";
import { backendPath, frontendPath } from "../xen/blkif/keys.js";
import type { VbdJournal } from "../xen/vbd-journal.js";
import type { XenstoreClient } from "../xen/xenstore/client.js";
import type { AttachedDevice, DeviceDetails, NegotiatedFeatures, StoreKey } from "./api-types.js";

/** A guest may write a thousand nodes of kilobytes into its directory. */
const MAX_KEYS = 128;
const MAX_VALUE = 256;

const SCRIPT_KEY = /^(physical-device(-path)?|hotplug-(status|error)|node)$/;
const BACKEND_KEY =
  /^(state|feature-.*|discard-(granularity|alignment|secure)|sectors|sector-size|physical-sector-size|info)$/;
/** Of the frontend's directory; the guest writes whatever else is in it. */
const TOOLSTACK_KEY = /^(backend|backend-id|virtual-device|device-type|trusted|xvdkit-queues|xvdkit-ring-page-order)$/;

export async function describeDetails(
  store: XenstoreClient,
  journal: VbdJournal,
  device: AttachedDevice,
): Promise<DeviceDetails> {
  const { domid, number: devid, ring, statistics } = device;
  const [backend, frontend] = await Promise.all([
    keysOf(store, backendPath(0, domid, devid), (key) =>
      SCRIPT_KEY.test(key) ? "script" : BACKEND_KEY.test(key) || BACKEND_OFFER_KEY.test(key) ? "backend" : "toolstack",
    ),
    keysOf(store, frontendPath(domid, devid), (key) => (TOOLSTACK_KEY.test(key) ? "toolstack" : "frontend")),
  ]);
  const rings = statistics?.rings ?? [];
  return {
    ...device,
    journal: journal.of({ domid, devid }),
    keys: { backend, frontend },
    features: features(device, backend),
    grants: {
      "ring-refs": ring?.rings.flatMap(({ ringRefs }) => ringRefs) ?? [],
      mapped: rings.reduce((sum, { mapped_grants }) => sum + mapped_grants, 0),
      persistent: rings.reduce((sum, { persistent_grants }) => sum + persistent_grants, 0),
    },
    "event-channels": (ring?.rings ?? []).flatMap(({ eventChannel }, i) => {
      const state = rings[i];
      return state ? [{ frontend: eventChannel, backend: state.port }] : [];
    }),
  };
}

/** In the store's order, each queue's keys in its place. */
async function keysOf(
  store: XenstoreClient,
  dir: string,
  writer: (key: string) => StoreKey["by"],
): Promise<StoreKey[]> {
  const names: string[] = [];
  for (const name of await namesIn(store, dir))
    if (/^queue-\d{1,3}$/.test(name))
      names.push(...(await namesIn(store, `${dir}/${name}`)).map((within) => `${name}/${within}`));
    else names.push(name);
  const keys = names.slice(0, MAX_KEYS).map(async (key) => {
    const value = await store.readOrNull(`${dir}/${key}`);
    return value === null ? [] : [{ key, value: value.slice(0, MAX_VALUE), by: writer(key) }];
  });
  return (await Promise.all(keys)).flat();
}

/** None when the directory has gone. */
async function namesIn(store: XenstoreClient, dir: string): Promise<string[]> {
  const names = await store.directory(dir).catch(() => []);
  return names.slice(0, MAX_KEYS);
}

/** The frontend's half is what the backend read when it connected, not what the guest may have written since. */
function features(device: AttachedDevice, keys: readonly StoreKey[]): NegotiatedFeatures | null {
  const { ring } = device;
  if (!ring) return null;
  const number = (key: string) => {
    const value = keys.find((each) => each.key === key)?.value ?? "";
    return /^\d{1,15}$/.test(value) ? Number(value) : null;
  };
  const is = (key: string) => number(key) === 1;
  return {
    protocol: ring.protocol,
    "ring-page-order": Math.log2(ring.rings[0]?.ringRefs.length ?? 1),
    "multi-queue-num-queues": ring.rings.length,
    "feature-max-indirect-segments": ring.maxIndirectSegments,
    "max-segments": device["frontend-rings"][0]?.max_segments ?? null,
    "feature-persistent": ring.persistent,
    "feature-flush-cache": is("feature-flush-cache"),
    "feature-barrier": is("feature-barrier"),
    "feature-discard": is("feature-discard"),
    "discard-granularity": number("discard-granularity"),
    "discard-secure": is("discard-secure"),
    "sector-size": number("sector-size"),
    "physical-sector-size": number("physical-sector-size"),
    sectors: number("sectors"),
    info: number("info"),
  };
}
