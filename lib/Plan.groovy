import groovy.json.JsonSlurperClassic
import java.nio.file.Path

/** What the workflow reads out of an arm's folds.json. */
class Plan {

    static List<Integer> folds(Path plan) {
        return (0..<read(plan).folds.size()).toList()
    }

    static List<String> test(Path plan) {
        return read(plan).test as List<String>
    }

    /** Region groups ("AB+TH,HN") with a patient to train on in this fold, as {"AB-TH": ["AB", "TH"]}. */
    static Map<String, List<String>> groups(Path plan, int fold, String groups) {
        Map content = read(plan)
        Set<String> regions = content.folds[fold].train.collect { content.regions[it] } as Set
        return groups.tokenize(',').collectEntries { group ->
            List<String> members = group.tokenize('+')*.trim()
            [members.join('-'), members]
        }.findAll { name, members -> members.any { it in regions } }
    }

    /** How many models an arm's bundle will hold: one global and its groups for each fold. */
    static int models(Path plan, String groups) {
        return folds(plan).sum { fold -> 1 + Plan.groups(plan, fold, groups).size() } as int
    }

    private static Map read(Path plan) {
        return new JsonSlurperClassic().parseText(plan.text) as Map
    }
}
