/** What is wrong with a group as it lies on its devices: the text, and each label and area against it. Reads nothing. */
import { checkGroup, unknownParts } from "./check-group.js";
import { checkTypes } from "./check-types.js";
import { isInUse } from "./label.js";
import { SECTOR, TEXT_LOCATION } from "./layout.js";
import type { PhysicalVolume } from "./metadata.js";
import type { FoundGroup, FoundPv } from "./scan.js";

export interface Finding {
  /** `note`: unusual, and nothing is lost by it. */
  readonly level: "damage" | "note";
  readonly message: string;
}

export const damage = (message: string): Finding => ({ level: "damage", message });
export const note = (message: string): Finding => ({ level: "note", message });

/** Beside what the scan warns of. */
export function checkFound({ group, members, outdated }: FoundGroup): Finding[] {
  const of = `VG ${group.name}: `;
  const findings = [...checkGroup(group), ...checkTypes(group), ...unknownParts(group)].map((problem) =>
    damage(`${of}${problem}`),
  );
  for (const entry of group.physicalVolumes) {
    const pv = members.get(entry.name);
    if (pv) findings.push(...checkMember(entry, pv).map((one) => ({ ...one, message: `${of}${one.message}` })));
  }
  for (const { name } of outdated) findings.push(note(`${of}${name} is free for 'xvd vgck --updatemetadata' to clear`));
  return findings;
}

function checkMember(entry: PhysicalVolume, { name, label, areas, device }: FoundPv): Finding[] {
  const findings: Finding[] = [];
  if (!isInUse(label)) findings.push(damage(`the label of ${name} does not say that it is in use`));
  const [data] = label.dataAreas;
  if (data && data.offset !== entry.peStart)
    findings.push(damage(`the label of ${name} has its data at byte ${data.offset}, the metadata at ${entry.peStart}`));
  if (entry.deviceSize !== null && device.size > entry.deviceSize + device.blockSize)
    findings.push(note(`${name} is larger than its PV by ${device.size - entry.deviceSize} bytes, pvresize uses them`));
  for (const { offset, size, header } of areas) {
    if (offset + size > entry.peStart && offset < entry.peStart)
      findings.push(damage(`the metadata area of ${name} at byte ${offset} reaches into its data`));
    if (header && TEXT_LOCATION.decode(header.precommitted).size !== 0n)
      findings.push(
        note(`a change that was cut is left in the header at byte ${offset} of ${name}; the next one clears it`),
      );
  }
  const end = entry.peStart + SECTOR;
  if (end > device.size) findings.push(damage(`${name} ends before its first extent`));
  return findings;
}
