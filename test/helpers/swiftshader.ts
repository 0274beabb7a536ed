/** SwiftShader for tests: it comes with a dev dependency, for Linux on x64; elsewhere the tests that need a device skip and say so. */
import { findSwiftshader } from '../../src/backends/webgpu/swiftshader.ts';

export const swiftshader = await findSwiftshader();

/** Reads well as `describe.skipIf(noDevice)('… (skipped: …)')`. */
export const noDevice = swiftshader === undefined;

// In CI a device that should be there and is not would let half of the suite pass unseen.
if (noDevice && process.env['CI'] && process.platform === 'linux' && process.arch === 'x64') {
  throw new Error('@sparticuz/chromium, which carries SwiftShader, is not installed: npm ci');
}
