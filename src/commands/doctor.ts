/** `tsrt-bench doctor`. */
import { formatBytes } from '../report/units.ts';
import type { DoctorReport } from '../workflows/doctor.ts';
import type { StoredSelfTest } from '../workflows/self-tests.ts';
import { BaseCommand } from './base.ts';
import { CONFIG_FLAGS, settings } from './config-flags.ts';
import { DEVICE_FLAG } from './device-flag.ts';

export default class Doctor extends BaseCommand {
  static override summary = 'Show which devices and backends are available, what is missing and how to get it';
  static override examples = ['<%= config.bin %> doctor', '<%= config.bin %> doctor --device swiftshader', '<%= config.bin %> doctor --json'];
  static override flags = { ...CONFIG_FLAGS, ...DEVICE_FLAG };

  async run(): Promise<DoctorReport> {
    const { flags } = await this.parse(Doctor);
    const { config } = await settings({ plugin: flags.plugin, results: flags.results, cache: flags.cache });
    const [{ doctor }, { describeWorth }] = await Promise.all([import('../workflows/doctor.ts'), import('../gate/self-test.ts')]);
    const report = await doctor(config, flags.device);
    for (const line of describe(report, describeWorth)) this.log(line);
    return report;
  }
}

function describe(report: DoctorReport, describeWorth: (test: StoredSelfTest) => string): string[] {
  const lines = [
    `tsrt-bench ${report.tool}, Node ${report.node}, ${report.os}`,
    `machine   ${report.cpu.model}, ${report.cpu.logicalCores} logical cores, ${formatBytes(report.memoryBytes)} memory`,
  ];
  for (const folder of report.folders) {
    const free = folder.freeBytes === undefined ? '' : `, ${formatBytes(folder.freeBytes)} free`;
    lines.push(`${folder.purpose.padEnd(9)} ${folder.path} (${folder.writable ? 'writable' : 'NOT writable'}${free})`);
  }
  lines.push('', 'backends');
  for (const { name, description, availability } of report.backends) {
    lines.push(`  ${availability.status === 'available' ? 'ok     ' : 'missing'} ${name}: ${description}`);
    if (availability.status === 'unavailable') {
      lines.push(`            why: ${availability.reason}`, `            fix: ${availability.fix}`);
      continue;
    }
    lines.push(`            version ${availability.version}`);
    for (const { slug, description, properties } of availability.devices) {
      lines.push(`            device ${slug}: ${description}`);
      for (const [key, value] of Object.entries(properties)) lines.push(`                   ${key} ${value}`);
    }
    for (const name of availability.optional ?? []) lines.push(`            device ${name}: only where it is named, with --device ${name}`);
  }
  lines.push('', 'gate');
  for (const test of report.selfTests) lines.push(`  suite ${test.suite}: ${describeWorth(test)}`);
  if (report.selfTests.length === 0) lines.push('  no self-test was made on this machine; `tsrt-bench gate SUITE --self-test` says what the gate is worth here');
  lines.push('', 'plugins');
  for (const plugin of report.plugins) lines.push(`  ${plugin.name} ${plugin.version} (${plugin.source})`);
  return lines;
}
