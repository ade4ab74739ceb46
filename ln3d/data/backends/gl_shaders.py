"""What the GPU runs: every fragment finds its own face, paint and light in tables, as `ln3d.raycast` does."""

VERTEX = """
#version 330
uniform mat4 to_clip;
in vec3 position;
in vec2 uv;
in vec4 paint;
out vec2 at;
out vec4 tint;

void main() {
    at = uv;
    tint = paint;
    gl_Position = to_clip * vec4(position, 1.0);
}
"""

FRAGMENT = """
#version 330
uniform sampler2D faces;   // three entries a face: normal, light on its front; light on its back, whether it is a
                           // cut-out, row and column of its texture; size and period of that, 0 for none
uniform sampler2D texels;  // all textures one behind the other, premultiplied
uniform mat3 axes;         // of the camera, in the world
uniform vec4 lens;         // from fragments to the image plane at distance 1: scale, shift
uniform bool geometry;     // whether normal and distance are asked for, or colour
in vec2 at;
in vec4 tint;
out vec4 seen;             // unit normal, distance along the ray; or lit colour, 1

vec4 entry(sampler2D table, int place) {
    int width = textureSize(table, 0).x;
    return texelFetch(table, ivec2(place % width, place / width), 0);
}

// The texels on both sides of a repeating coordinate, and how far it is towards the second.
void neighbours(float coordinate, float period, int size, out ivec2 both, out float share) {
    float position = fract(coordinate) * period - 0.5;
    float before = floor(position);
    share = position - before;
    int first = int(before);
    both = ivec2(first < 0 ? size - 1 : min(first, size - 1), first + 1 > size - 1 ? 0 : first + 1);
}

vec4 texture_at(vec2 place, int start, ivec2 size, vec2 period) {
    ivec2 x, y;
    vec2 share;
    neighbours(place.x, period.x, size.x, x, share.x);
    neighbours(1.0 - place.y, period.y, size.y, y, share.y);
    int top = start + y.x * size.x, bottom = start + y.y * size.x;
    vec4 above = mix(entry(texels, top + x.x), entry(texels, top + x.y), share.x);
    vec4 below = mix(entry(texels, bottom + x.x), entry(texels, bottom + x.y), share.x);
    return mix(above, below, share.y);
}

void main() {
    vec4 front = entry(faces, 3 * gl_PrimitiveID);
    vec4 other = entry(faces, 3 * gl_PrimitiveID + 1);
    vec4 image = entry(faces, 3 * gl_PrimitiveID + 2);
    bool cutout = other.y > 0.5;
    vec4 paint = tint;
    if (image.x > 0.0 && (cutout || !geometry)) {
        int start = int(other.z) * textureSize(texels, 0).x + int(other.w);
        vec4 texel = texture_at(at, start, ivec2(image.xy), image.zw);
        paint *= min(vec4(texel.rgb / max(texel.a, 1.0 / 255.0), texel.a), 1.0);
    }
    if (cutout && paint.a < 0.5) discard;
    vec3 ray = vec3(gl_FragCoord.xy * lens.xy + lens.zw, 1.0);
    bool behind = dot(front.xyz, axes * ray) > 0.0;
    if (geometry) seen = vec4(behind ? -front.xyz : front.xyz, length(ray) / gl_FragCoord.w);
    else seen = vec4(paint.rgb * (behind ? other.x : front.w), 1.0);
}
"""
