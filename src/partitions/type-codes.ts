/**
 * What a partition is for: GPT type GUIDs, MBR type bytes, their names, and the words by which people ask for them.
 * Aliases are those of sfdisk (letters and words) and sgdisk (four hexadecimal digits), and a few of our own.
 */
import { isGuid } from "../bytes/guid.js";
import { DiskError } from "../errors.js";
import type { PartitionTable } from "./table.js";

interface TypeCode {
  readonly name: string;
  readonly guid?: string;
  /** Hexadecimal as sfdisk prints it. */
  readonly mbr?: string;
  readonly aliases: readonly string[];
}

const type = (name: string, guid: string | undefined, mbr: string | undefined, ...aliases: string[]): TypeCode => ({
  name,
  ...(guid ? { guid } : {}),
  ...(mbr ? { mbr } : {}),
  aliases,
});

/** The first line with a GUID or a byte gives it its name; the first with an alias gives the alias its meaning. */
const TYPES: readonly TypeCode[] = [
  type("Linux filesystem", "0FC63DAF-8483-4772-8E79-3D69D8477DE4", "83", "linux", "l", "8300"),
  type("Linux swap", "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F", "82", "swap", "s", "8200"),
  type("EFI System", "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", "ef", "efi", "uefi", "esp", "u", "ef00"),
  type("BIOS boot", "21686148-6449-6E6F-744E-656564454649", undefined, "bios", "bios-boot", "ef02"),
  type("Linux LVM", "E6D6D379-F507-44C2-A23C-238F2A3DF928", "8e", "lvm", "v", "8e00"),
  type("Linux RAID", "A19D880F-05FC-4D3B-A006-743F0F84911E", "fd", "raid", "r", "fd00"),
  type("Linux home", "933AC7E1-2EB4-4F13-B844-0E14E2AEF915", undefined, "home", "h", "8302"),
  type("Linux root (x86-64)", "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709", undefined, "root-x86-64", "8304"),
  type("Linux root (x86)", "44479540-F297-41B2-9AF7-D131D5F0458A", undefined, "root-x86", "8303"),
  type("Linux root (ARM-64)", "B921B045-1DF0-41C3-AF44-4C6F280D3FAE", undefined, "root-arm64", "8305"),
  type("Linux root (ARM)", "69DAD710-2CE4-4E3C-B16C-21A1D49ABED3", undefined, "root-arm", "8307"),
  type("Linux root (RISC-V-64)", "72EC70A6-CF74-40E6-BD49-4BDA08E8F224", undefined, "root-riscv64"),
  type("Linux root (PPC64LE)", "C31C45E6-3F39-412E-80FB-4809C4980599", undefined, "root-ppc64-le"),
  type("Linux root (S390X)", "5EEAD9A9-FE09-4A1E-A1D7-520D00531306", undefined, "root-s390x"),
  type("Linux /usr (x86-64)", "8484680C-9521-48C6-9C11-B0720656F69E", undefined, "usr-x86-64", "8314"),
  type("Linux /usr (ARM-64)", "B0E01050-EE5F-4390-949A-9101B17104E9", undefined, "usr-arm64", "8316"),
  type("Linux root verity (x86-64)", "2C7357ED-EBD2-46D9-AEC1-23D437EC2BF5", undefined, "root-x86-64-verity", "830c"),
  type("Linux server data", "3B8F8425-20E0-4F3B-907F-1A25A76F98E8", undefined, "srv", "8306"),
  type("Linux variable data", "4D21B016-B534-45C2-A9FB-5C16E091FD2D", undefined, "var", "8310"),
  type("Linux temporary data", "7EC6F557-3BC5-4ACA-B293-16EF5DF639D1", undefined, "tmp", "8311"),
  type("Linux user's home", "773F91EF-66D4-49B5-BD83-D683BF40AD16", undefined, "user-home", "8312"),
  type("Linux extended boot", "BC13C2FF-59E6-4262-A352-B275FD6F7172", "ea", "xbootldr", "ea00"),
  type("Linux reserved", "8DA63339-0007-60C0-C436-083AC8230908", undefined, "reserved", "8301"),
  type("Linux dm-crypt", "7FFEC5C9-2D00-49B7-8941-3EA10A5586B7", undefined, "dm-crypt", "8308"),
  type("Linux LUKS", "CA7D7CCB-63ED-4C53-861C-1742536059CC", "e8", "luks", "8309"),
  type("Microsoft basic data", "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7", undefined, "data", "basic-data", "0700"),
  type("HPFS/NTFS/exFAT", "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7", "7", "ntfs"),
  type("W95 FAT32 (LBA)", "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7", "c", "fat32", "vfat", "fat"),
  type("W95 FAT32", "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7", "b"),
  type("W95 FAT16 (LBA)", "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7", "e", "fat16"),
  type("FAT16", "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7", "6"),
  type("FAT16 <32M", "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7", "4"),
  type("FAT12", "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7", "1"),
  type("Microsoft reserved", "E3C9E316-0B5C-4DB8-817D-F92DF00215AE", undefined, "msr", "0c01"),
  type("Windows recovery environment", "DE94BBA4-06D1-4D40-A16A-BFD50179D6AC", "27", "winre", "2700"),
  type("Microsoft LDM metadata", "5808C8AA-7E8F-42E0-85D2-E1E90434CFB3", undefined, "4201"),
  type("Microsoft LDM data", "AF9B60A0-1431-4F62-BC68-3311714A69AD", "42", "4200"),
  type("Microsoft Storage Spaces", "E75CAF8F-F680-4CEE-AFA3-B001E56EFC2D", undefined, "4202"),
  type("PowerPC PReP boot", "9E1A2D38-C612-4316-AA26-8B49521E5A8B", "41", "prep", "4100"),
  type("MBR partition scheme", "024DEE41-33E7-11D3-9D69-0008C781F39F", undefined, "ef01"),
  type("Apple HFS/HFS+", "48465300-0000-11AA-AA11-00306543ECAC", "af", "hfs", "af00"),
  type("Apple APFS", "7C3457EF-0000-11AA-AA11-00306543ECAC", undefined, "apfs", "af0a"),
  type("Apple boot", "426F6F74-0000-11AA-AA11-00306543ECAC", "ab", "ab00"),
  type("Apple Core storage", "53746F72-6167-11AA-AA11-00306543ECAC", undefined, "af05"),
  type("FreeBSD", "516E7CB4-6ECF-11D6-8FF8-00022D09712B", "a5", "freebsd", "a500"),
  type("FreeBSD boot", "83BD6B9D-7F41-11DC-BE0B-001560B84F0F", undefined, "freebsd-boot", "a501"),
  type("FreeBSD swap", "516E7CB5-6ECF-11D6-8FF8-00022D09712B", undefined, "freebsd-swap", "a502"),
  type("FreeBSD UFS", "516E7CB6-6ECF-11D6-8FF8-00022D09712B", undefined, "freebsd-ufs", "a503"),
  type("FreeBSD ZFS", "516E7CBA-6ECF-11D6-8FF8-00022D09712B", undefined, "freebsd-zfs", "a504"),
  type("NetBSD FFS", "49F48D5A-B10E-11DC-B99B-0019D1879648", "a9", "netbsd", "a902"),
  type("OpenBSD data", "824CC7A0-36A8-11E3-890A-952519AD3F61", "a6", "openbsd", "a600"),
  type("Solaris root", "6A85CF4D-1DD2-11B2-99A6-080020736631", undefined, "bf00"),
  type("Solaris /usr or ZFS", "6A898CC3-1DD2-11B2-99A6-080020736631", "bf", "zfs", "bf01"),
  type("ChromeOS kernel", "FE3A2A5D-4F32-41A7-B725-ACCC3285A309", undefined, "7f00"),
  type("ChromeOS root", "3CB8E202-3B7E-47DD-8A3C-7FF2A13CFCEC", undefined, "7f01"),
  type("Ceph OSD", "4FBD7E29-9D25-41B8-AFD0-062C0CEFF05D", undefined, "ceph", "f800"),
  type("VMware VMFS", "AA31E02A-400F-11DB-9590-000C2911D1B8", "fb", "vmfs", "fb00"),
  type("Haiku BFS", "42465331-3BA3-10F1-802A-4861696B7521", "eb", "bfs", "eb00"),
  type("Extended", undefined, "5", "extended", "e"),
  type("W95 Ext'd (LBA)", undefined, "f", "extended-lba"),
  type("Linux extended", undefined, "85", "x", "linux-extended"),
  type("Minix / old Linux", undefined, "81", "minix"),
  type("GPT protective", undefined, "ee"),
];

export const LINUX_GUID = "0FC63DAF-8483-4772-8E79-3D69D8477DE4";

/** A word, a GUID or a hexadecimal byte to the table's own code. Throws `UNSUPPORTED` (wrong usage) for what it does not know. */
export function resolveType(label: PartitionTable["label"], text: string): string {
  const word = text.trim().toLowerCase();
  if (label === "gpt" && isGuid(word)) return word.toUpperCase();
  // sfdisk: "E" is its letter for an extended partition, "e" a hexadecimal byte.
  if (label === "dos" && text.trim() !== "E" && /^(0x)?0*[0-9a-f]{1,2}$/.test(word)) {
    const byte = Number.parseInt(word.replace(/^0x/, ""), 16);
    if (byte > 0) return byte.toString(16);
  }
  const known = TYPES.find(
    ({ aliases, ...code }) => aliases.includes(word) && (label === "gpt" ? code.guid : code.mbr),
  );
  const found = label === "gpt" ? known?.guid : known?.mbr;
  if (found) return found;
  const forms = label === "gpt" ? "a GUID" : "a hexadecimal byte";
  throw new DiskError(
    "UNSUPPORTED",
    `Cannot use partition type ${JSON.stringify(text)}: it is not known here, allowed are ${forms} or ${aliasList(label)}`,
    {
      details: { usage: true, type: text },
    },
  );
}

/** The words for help and messages. */
export function aliasList(label: PartitionTable["label"]): string {
  const usable = TYPES.filter((code) => (label === "gpt" ? code.guid : code.mbr));
  return usable
    .flatMap(({ aliases }) => aliases.filter((alias) => alias.length > 1 && !/^[0-9a-f]{4}$/.test(alias)).slice(0, 1))
    .join(" ");
}

/** The name of a code, or the code itself. */
export function typeName(label: PartitionTable["label"], code: string): string {
  const found = TYPES.find(({ guid, mbr }) => (label === "gpt" ? guid : mbr) === code);
  return found?.name ?? (label === "gpt" ? code : `type ${code}`);
}

/** The short word for a code, for layouts and pictures; undefined when it has none. */
export function typeAlias(label: PartitionTable["label"], code: string): string | undefined {
  return TYPES.find(({ guid, mbr }) => (label === "gpt" ? guid : mbr) === code)?.aliases.find(
    (alias) => alias.length > 1,
  );
}

/** The other kind of table's code for the same use; null when there is none. */
export function translateType(to: PartitionTable["label"], code: string): string | null {
  const from = to === "gpt" ? "mbr" : "guid";
  const known = TYPES.find((entry) => entry[from] === code && entry[to === "gpt" ? "guid" : "mbr"]);
  return (to === "gpt" ? known?.guid : known?.mbr) ?? null;
}
