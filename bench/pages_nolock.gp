# SPDX-License-Identifier: MIT
# gnuplot -c pages_nolock.gp DATA STEM: how often a page is to be had in a signal handler, by how full the range is, as
# STEM.svg and STEM.png: all of it, and the last ten percent. DATA is what weir-bench-pages writes: per run a block
# "reserve", percent, and success in percent of weir_page_alloc, weir_page_alloc_nolock, weir_page_free_nolock.
data = ARG1
stem = ARG2

runs = int(system(sprintf("grep -c '^\"' '%s'", data)))
reserve(k) = system(sprintf("grep '^\"' '%s' | sed -n '%dp' | cut -d '\"' -f 2", data, k + 1))
with_reserve(k) = reserve(k) eq "0" ? "no reserve" : "reserve of " . reserve(k) . " pages"
colors = "#b03030 #1f5fa8"

ink = "#303030"
set border 3 lc rgb "#707070"
set tics nomirror out textcolor rgb ink
set grid ytics lt 1 lc rgb "#e4e4e4" lw 1
set yrange [0 : 104]
set format y "%.0f %%"
set format x "%.0f %%"
set xlabel "of the range in use" textcolor rgb ink

do for [format in "svg png"] {
    if (format eq "svg") {
        set terminal svg size 960, 460 font "DejaVu Sans,13" background "white" dynamic
    } else {
        set terminal pngcairo size 1440, 690 font "DejaVu Sans,13" fontscale 1.2 linewidth 1.5 background "white"
    }
    set output stem . "." . format
    set multiplot layout 1, 2 margins 0.07, 0.97, 0.14, 0.82 spacing 0.08, 0 \
        title "Success in a signal handler, by how full the range is" font ",15" offset 0, -0.3
    do for [panel = 1 : 2] {
        set title (panel == 1 ? "all of it" : "the last ten percent") textcolor rgb ink font ",13" offset 0, -0.5
        set xrange [(panel == 1 ? 0 : 90) : 100]
        if (panel == 1) {
            set key at graph 0.02, 0.05 left bottom Left reverse textcolor rgb ink samplen 2.5 font ",12"
        } else {
            unset key
        }
        plot for [k = 0 : runs - 1] data index k using 1:3 with linespoints pt 7 ps 0.4 lw 2 \
                 lc rgb word(colors, k + 1) title "alloc\\_nolock, " . with_reserve(k), \
             for [k = 0 : runs - 1] data index k using 1:2 with lines lw 1.5 dt (2, 3) \
                 lc rgb word(colors, k + 1) title "ordinary alloc, " . with_reserve(k), \
             for [k = 0 : runs - 1] data index k using 1:4 with lines lw 1.3 dt (8, 4) \
                 lc rgb (k == 0 ? "#909090" : "#c0a060") title "free\\_nolock kept, " . with_reserve(k)
    }
    unset multiplot
    unset output
}
