/** Identities of physical volumes, groups and volumes: 32 characters, as text in groups 6-4-4-4-4-4-6. LVM2 lib/uuid/uuid.c. */

/** Fills a new array with random bytes; `randomBytes` of node:crypto. */
export type Random = (size: number) => Uint8Array;

const LETTERS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
const GROUPS = /^(.{6})(.{4})(.{4})(.{4})(.{4})(.{4})(.{6})$/;

/** A new id in its text form. */
export function newId(random: Random): string {
  let id = "";
  while (id.length < 32)
    for (const byte of random(48))
      if (byte < 4 * LETTERS.length && id.length < 32) id += LETTERS[byte % LETTERS.length];
  return formatId(id);
}

/** 32 characters, as in a label, to the text form. */
export function formatId(id: string): string {
  return id.replace(GROUPS, "$1-$2-$3-$4-$5-$6-$7");
}

const FORMATTED = /^[0-9A-Za-z!#]{6}(?:-[0-9A-Za-z!#]{4}){5}-[0-9A-Za-z!#]{6}$/;

/** Whether it is an id in its text form. */
export function isFormattedId(text: string): boolean {
  return FORMATTED.test(text);
}

/** The 32 characters of an id with or without its hyphens; null when it is none. */
export function parseId(text: string): string | null {
  const id = text.replaceAll("-", "");
  return /^[0-9A-Za-z!#]{32}$/.test(id) ? id : null;
}
