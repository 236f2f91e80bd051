/** The images of fixtures/partition-tables, made by other tools, with what sfdisk says of them. */
import { readdirSync, readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";

const FOLDER = new URL("../../fixtures/partition-tables/", import.meta.url);

export const FIXTURES: readonly string[] = readdirSync(FOLDER)
  .filter((name) => name.endsWith(".gz"))
  .map((name) => name.slice(0, -3));

/** A copy of the image that the caller may change. */
export function fixture(name: string): Uint8Array {
  return new Uint8Array(gunzipSync(readFileSync(new URL(`${name}.gz`, FOLDER))));
}

/** sfdisk's JSON of the image. */
export function expected(name: string): unknown {
  return JSON.parse(readFileSync(new URL("expected.json", FOLDER), "utf8"))[name];
}
