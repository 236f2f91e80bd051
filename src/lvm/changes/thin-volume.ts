/** Thin volumes in a group, and what their pool is told of them. Pure. LVM2 lib/metadata/thin_manip.c. */
import { alignUp } from "../../bytes/align.js";
import { DiskError } from "../../errors.js";
import { assign, type Entry, section } from "../config/tree.js";
import {
  extentCount,
  findVolume,
  type LogicalVolume,
  numberField,
  type Segment,
  textField,
  type VolumeGroup,
  volumeSize,
} from "../metadata.js";
import { isMessage, type PoolMessage, poolMessages } from "../thin/message-fields.js";
import { type NewVolumeRequest, nameForNew, newVolume } from "./create-volume.js";
import { type GroupPlan, messageSize, usage } from "./plan.js";
import { fieldSegment, findPool, promisedSize } from "./thin-pool.js";

export interface ThinPlan extends GroupPlan {
  readonly volume: LogicalVolume;
  readonly warnings: readonly string[];
}

/** Empty, of `size` bytes. */
export function planCreateThin(
  group: VolumeGroup,
  request: NewVolumeRequest & { readonly pool: string; readonly size: number },
): ThinPlan {
  if (!(request.size > 0)) throw usage("Unable to create new logical volume with no extents");
  return planThin(group, request, alignUp(request.size, group.extentSize) / group.extentSize, []);
}

/** A snapshot of a thin volume in its own pool: as large, and left out by kernels unless they are asked. */
export function planThinSnapshot(
  group: VolumeGroup,
  request: NewVolumeRequest & { readonly origin: string },
): ThinPlan {
  const origin = findVolume(group, request.origin);
  const segment = thinSegment(group, origin);
  const pool = textField(segment, "thin_pool")!;
  return planThin(group, { skipActivation: true, ...request, pool }, extentCount(origin), [
    assign("origin", origin.name),
  ]);
}

/** A thin volume that begins as what a volume outside of the pool holds, which is not changed any more. */
export function planExternalSnapshot(
  group: VolumeGroup,
  request: NewVolumeRequest & { readonly origin: string; readonly pool: string },
): ThinPlan {
  const origin = findVolume(group, request.origin);
  if (origin.status.includes("WRITE"))
    throw new DiskError(
      "DENIED",
      `Cannot use writable LV as the external origin: ${group.name}/${origin.name}, 'xvd lvchange -p r' makes it read-only`,
    );
  const fields = [assign("external_origin", origin.name)];
  return planThin(group, { skipActivation: false, ...request }, extentCount(origin), fields);
}

function planThin(
  group: VolumeGroup,
  request: NewVolumeRequest & { readonly pool: string },
  extents: number,
  fields: readonly Entry[],
): ThinPlan {
  const name = nameForNew(group, request);
  const { pool, segment } = findPool(group, request.pool);
  // Messages that wait belong to the same transaction.
  const told = withMessage(segment, { kind: "create", volume: name });
  const transactionId = numberField(told, "transaction_id")! - 1;
  const volume = newVolume(name, request, [
    fieldSegment("thin", extents, [
      assign("thin_pool", pool.name),
      assign("transaction_id", transactionId),
      assign("device_id", freeDeviceId(group, pool.name)),
      ...fields,
    ]),
  ]);
  const logicalVolumes = [...withSegment(group, pool, told).logicalVolumes, volume];
  const after = { ...group, logicalVolumes };
  return {
    volume,
    group: after,
    warnings: overprovisioned(after, pool),
    steps: [`Logical volume "${name}" created.`],
  };
}

export function thinVolumes({ logicalVolumes }: VolumeGroup, pool: string): LogicalVolume[] {
  return logicalVolumes.filter(
    ({ segments: [segment] }) => segment?.type === "thin" && textField(segment, "thin_pool") === pool,
  );
}

export function thinSegment(group: VolumeGroup, { name, segments: [segment] }: LogicalVolume): Segment {
  if (segment?.type === "thin") return segment;
  throw new DiskError("UNSUPPORTED", `Logical volume ${group.name}/${name} is not a thin volume.`, {
    details: { usage: true },
  });
}

const MAX_DEVICE_ID = 2 ** 24 - 1;

/** Behind all that are in use, and all that are to be deleted. */
function freeDeviceId(group: VolumeGroup, pool: string): number {
  const used = thinVolumes(group, pool).map(({ segments }) => numberField(segments[0]!, "device_id") ?? 0);
  const deleted = poolMessages(findPool(group, pool).segment).map((told) =>
    told.kind === "delete" ? told.deviceId : 0,
  );
  const id = [...used, ...deleted].reduce((most, next) => Math.max(most, next), 0) + 1;
  if (id <= MAX_DEVICE_ID) return id;
  throw new DiskError(
    "NO_SPACE",
    `Cannot find free device id for thin pool ${group.name}/${pool}: ${MAX_DEVICE_ID} is in use`,
  );
}

/** The first message of a transaction raises the pool's id. */
export function withMessage(segment: Segment, message: PoolMessage): Segment {
  const before = segment.fields.filter(isMessage).length;
  const told = message.kind === "create" ? assign("create", message.volume) : assign("delete", message.deviceId);
  const fields = before > 0 ? segment.fields : raised(segment.fields);
  return { ...segment, fields: [...fields, section(`message${before + 1}`, [told])] };
}

function raised(fields: readonly Entry[]): Entry[] {
  return fields.map((field) =>
    field.kind === "assign" && field.key === "transaction_id"
      ? assign("transaction_id", Number(field.value) + 1)
      : field,
  );
}

/** The group whose pools have been told everything. */
export function withoutMessages(group: VolumeGroup): VolumeGroup {
  const logicalVolumes = group.logicalVolumes.map((volume) =>
    hasMessages(volume)
      ? {
          ...volume,
          segments: volume.segments.map((segment) => ({
            ...segment,
            fields: segment.fields.filter((field) => !isMessage(field)),
          })),
        }
      : volume,
  );
  return { ...group, logicalVolumes };
}

/** Whether the volume is a pool that has not been told everything, as far as the group knows. */
export function hasMessages({ segments: [segment] }: LogicalVolume): boolean {
  return segment?.type === "thin-pool" && segment.fields.some(isMessage);
}

export function withSegment(group: VolumeGroup, volume: LogicalVolume, segment: Segment): VolumeGroup {
  const changed = { ...volume, segments: [segment] };
  return { ...group, logicalVolumes: group.logicalVolumes.map((other) => (other === volume ? changed : other)) };
}

/** The thin volume is gone, its pool is told; snapshots of it stand by themselves from now on. */
export function removeThin(group: VolumeGroup, volume: LogicalVolume): VolumeGroup {
  const segment = thinSegment(group, volume);
  const { pool, segment: poolSegment } = findPool(group, textField(segment, "thin_pool")!);
  const told = withMessage(poolSegment, { kind: "delete", deviceId: numberField(segment, "device_id")! });
  const left = withSegment(group, pool, told).logicalVolumes.filter((other) => other !== volume);
  return { ...group, logicalVolumes: left.map((other) => withoutOrigin(other, volume.name)) };
}

function withoutOrigin(volume: LogicalVolume, origin: string): LogicalVolume {
  const [segment] = volume.segments;
  if (segment?.type !== "thin" || textField(segment, "origin") !== origin) return volume;
  const fields = segment.fields.filter(({ key }) => key !== "origin");
  return { ...volume, segments: [{ ...segment, fields }] };
}

function overprovisioned(group: VolumeGroup, pool: LogicalVolume): string[] {
  const promised = promisedSize(group, thinVolumes(group, pool.name));
  const has = volumeSize(group, pool);
  if (promised <= has) return [];
  return [
    `WARNING: Sum of all thin volume sizes (${messageSize(promised)}) exceeds the size of thin pool ${group.name}/${pool.name} (${messageSize(has)}).`,
  ];
}
