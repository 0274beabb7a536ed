/** docs/external-protocol.md says what the schema says: requests, capabilities, failure codes, version. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { CAPABILITIES, FAILURES, PROTOCOL_VERSION, REQUESTS } from '../../../../src/backends/external/protocol.ts';

const text = readFileSync(fileURLToPath(new URL('../../../../docs/external-protocol.md', import.meta.url)), 'utf8');
const rows = text.split('\n').flatMap((line) => (line.startsWith('| `') ? [line.split('|').map((cell) => cell.trim())] : []));

describe('the page on the external protocol', () => {
  it('is of this version', () => expect(text).toContain(`# External protocol, version ${PROTOCOL_VERSION}`));

  it('lists every request, with the capability that it needs', () => {
    expect(rows.map((row) => row[1]!.replaceAll('`', ''))).toEqual([...REQUESTS]);
    const needed = new Set(rows.map((row) => row[4]!.replaceAll('`', '')).filter(Boolean));
    expect([...needed, 'timing'].sort()).toEqual([...CAPABILITIES].sort());
  });

  it('lists every code', () => {
    const listed = /^Codes: ([^]*?)\. Any/m.exec(text)![1]!.match(/`([a-z-]+)`/g)!.map((code) => code.slice(1, -1));
    expect(listed).toEqual(Object.keys(FAILURES));
  });
});
