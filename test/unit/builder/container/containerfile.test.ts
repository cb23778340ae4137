import { describe, expect, it } from 'vitest';
import { readContainerfile } from '../../../../builder/container/containerfile.ts';

const read = (text: string) => readContainerfile(text, 'Containerfile');

describe('the images a Containerfile names', () => {
  it('are found with variables filled in, once each, and replaced where they stand', () => {
    const { images, text } = read(`# FROM nothing
ARG VERSION=26
ARG NAME=node
FROM skiff/\${NAME}:$VERSION AS build
COPY --from=host.example:5000/a/b:1 /x /x
FROM --platform=$BUILDPLATFORM skiff/node:\${MISSING:-26}
COPY --from=build /x /y
COPY --from=0 /x /z
`);
    expect(images).toEqual(['skiff/node:26', 'host.example:5000/a/b:1']);
    expect(text).toContain('FROM localhost/build/images/0 AS build\n');
    expect(text).toContain('COPY --from=localhost/build/images/1 /x /x\n');
    expect(text).toContain('FROM --platform=$BUILDPLATFORM localhost/build/images/0\n');
    expect(text).toContain('COPY --from=build /x /y\nCOPY --from=0 /x /z\n');
  });

  it('are not stages, scratch, comments or texts of other instructions', () => {
    const { images, text } = read(`FROM scratch AS One
FROM one
RUN echo FROM other/image
RUN <<EOF
FROM inside/heredoc
EOF
`);
    expect(images).toEqual([]);
    expect(text).toContain('FROM inside/heredoc');
  });

  it('survive continued lines and Windows line ends', () => {
    const { images, text } = read('FROM \\\r\n  a/b:1 \\\r\n  AS x\r\nRUN true\r\n');
    expect(images).toEqual(['a/b:1']);
    expect(text).toBe('FROM \\\n  localhost/build/images/0 \\\n  AS x\nRUN true\n');
  });

  it('in a mount are refused with their line, stages are not', () => {
    expect(() => read('FROM scratch\nRUN --mount=type=bind,from=a/b,target=/x true\n')).toThrow(
      /Containerfile:2: RUN mounts image "a\/b"/,
    );
    expect(read('FROM scratch AS s\nRUN --mount=type=bind,from=s,target=/x true\n').images).toEqual([]);
  });

  it('must not be more than 16, and there must be a FROM', () => {
    const many = Array.from({ length: 17 }, (_, i) => `FROM a/b${i}`).join('\n');
    expect(() => read(many)).toThrow(/names 17 images; the limit is 16/);
    expect(() => read('RUN true')).toThrow(/has no FROM/);
  });
});
